# Where the tests of kubernetes/ have their tools and Kubernetes' own files from: Go modules, kept in $KUBERNETES_TOOLS.
# shellcheck shell=bash disable=SC2034 # used by those who source this

# A new enough Go first.
PATH=$(.ci/go):$PATH
tools=${KUBERNETES_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/microservice-app/kubernetes}
export GOBIN=$tools/bin GOFLAGS=-modcacherw
kustomize=v5.8.1 kubeconform=v0.7.0 prometheus_operator=v0.85.0
kubernetes_versions="1.35.4 1.36.3 1.37.2"
overlays="try outside outside-monitored"

# tool NAME PACKAGE VERSION
tool() { [ -x "$tools/bin/$1-$3" ] || { go install "$2@$3" && mv "$tools/bin/$1" "$tools/bin/$1-$3"; }; }
# module PATH VERSION: prints its folder
module() { go mod download -json "$1@$2" | python3 -c 'import json, sys; print(json.load(sys.stdin)["Dir"])'; }

install_tools() {
    mkdir -p "$tools/bin"
    tool kustomize sigs.k8s.io/kustomize/kustomize/v5 $kustomize
    tool kubeconform github.com/yannh/kubeconform/cmd/kubeconform $kubeconform
    crds=$(module github.com/prometheus-operator/prometheus-operator $prometheus_operator)/example/prometheus-operator-crd
}
render() { "$tools/bin/kustomize-$kustomize" build "kubernetes/overlays/$1"; }
