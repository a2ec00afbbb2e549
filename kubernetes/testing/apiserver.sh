#!/usr/bin/env bash
# The overlays, handed to a real kube-apiserver: by the README's kubectl, and object by object with server-side dry-run.
# Field validation, defaulting, admission, and pod security are the server's own. Both are built from Kubernetes' Go modules,
# once, which takes some minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
# shellcheck source=docker/testing/lib.sh
. docker/testing/lib.sh
# shellcheck source=kubernetes/testing/tools.sh
. kubernetes/testing/tools.sh
need etcd etcd-server && need openssl openssl && need curl curl && need python3 python3
version=1.36.3

# build COMMAND: the module k8s.io/kubernetes refers to its sisters by folders that are not in it; here they have versions.
build() {
    local folder=$work/build
    mkdir -p "$folder"
    {
        printf 'module commands\n\ngo 1.26.0\n\nrequire k8s.io/kubernetes v%s\n\nreplace (\n' "$version"
        sed -n "s|^\t\(k8s.io/[^ ]*\) => ./staging.*|\t\1 => \1 v0.${version#1.}|p" "$(module k8s.io/kubernetes "v$version")/go.mod"
        printf ')\n'
    } >"$folder/go.mod"
    # What the two commands import.
    printf 'package commands\n\nimport (\n\t_ "k8s.io/kubectl/pkg/cmd"\n\t_ "k8s.io/kubernetes/cmd/kube-apiserver/app"\n)\n' >"$folder/commands.go"
    (cd "$folder" && go mod tidy -e && go build -trimpath -o "$tools/bin/$1-$version" \
        -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=v$version -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$(cut -d. -f2 <<<"$version")" \
        "k8s.io/kubernetes/cmd/$1")
}
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
started=()
# The last first: without its etcd a kube-apiserver does not end.
finish() {
    local code=$?
    [ "$code" = 0 ] || tail -n 20 "$work/apiserver.log" 2>/dev/null || true
    for ((i = ${#started[@]} - 1; i >= 0; i--)); do
        kill "${started[i]}" 2>/dev/null || continue
        timeout 20 tail --pid="${started[i]}" -f /dev/null || kill -9 "${started[i]}"
    done
    rm -rf "$work"
}
trap finish EXIT

check "kustomize and the operator's definitions are here" install_tools
for command in kube-apiserver kubectl; do
    [ -x "$tools/bin/$command-$version" ] || check "$command $version is built" build "$command"
done
etcd_port=$(free_port) peer_port=$(free_port) port=$(free_port)
etcd --data-dir "$work/etcd" --listen-client-urls "http://127.0.0.1:$etcd_port" --advertise-client-urls "http://127.0.0.1:$etcd_port" \
    --listen-peer-urls "http://127.0.0.1:$peer_port" --initial-advertise-peer-urls "http://127.0.0.1:$peer_port" \
    --initial-cluster "default=http://127.0.0.1:$peer_port" >"$work/etcd.log" 2>&1 &
started+=($!)
openssl genrsa -out "$work/key" 2048 2>/dev/null
token=$(openssl rand -hex 16)
echo "$token,test,test,system:masters" >"$work/tokens"
"$tools/bin/kube-apiserver-$version" --etcd-servers "http://127.0.0.1:$etcd_port" --bind-address 127.0.0.1 --secure-port "$port" --cert-dir "$work/certs" \
    --token-auth-file "$work/tokens" --authorization-mode RBAC --service-cluster-ip-range 10.0.0.0/24 --allow-privileged \
    --service-account-issuer https://kubernetes.default --service-account-key-file "$work/key" \
    --service-account-signing-key-file "$work/key" >"$work/apiserver.log" 2>&1 &
started+=($!)
ready() { curl --silent --insecure --fail --header "Authorization: Bearer $token" "https://127.0.0.1:$port/readyz"; }
eventually 120 "kube-apiserver $version is ready" ready
kubectl() {
    "$tools/bin/kubectl-$version" --kubeconfig /dev/null --cache-dir "$work/kubectl" --server "https://127.0.0.1:$port" \
        --insecure-skip-tls-verify --token "$token" "$@"
}
for overlay in $overlays; do
    render "$overlay" >"$work/$overlay.yaml"
    definitions=()
    # The others are for a cluster that has no operator.
    [ "$overlay" != outside-monitored ] || definitions=("$crds"/*servicemonitors.yaml)
    check "overlay $overlay is accepted, without a warning" kubernetes/testing/dryrun.py "https://127.0.0.1:$port" "$token" \
        "$work/$overlay.yaml" "${definitions[@]}"
    cat "$work/check"
    # Rendered by the kustomize that is in kubectl, another version than ours.
    check "kubectl takes overlay $overlay" kubectl apply --server-side --dry-run=server -k "kubernetes/overlays/$overlay"
done
# Not dry; and when it is there already.
for time in first second; do check "kubectl applies overlay try, the $time time" kubectl apply -k kubernetes/overlays/try; done
echo "$passed passed, 0 failed"
