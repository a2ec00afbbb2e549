#!/usr/bin/env bash
# The overlays: rendered by kustomize, held against the API's own schemas of three versions, against what the rest of the
# tree says of ports, times and flags, and against who is to reach whom. Needs Go and python3, and the Go module proxy for
# what is not here yet.
#
#   kubernetes/testing/run.sh [FOLDER]    FOLDER has static binaries, to try the manifests' flags on; without it they are built
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# shellcheck source=docker/testing/lib.sh
. docker/testing/lib.sh
# shellcheck source=kubernetes/testing/tools.sh
. kubernetes/testing/tools.sh
need python3 python3
/usr/bin/python3 -c 'import yaml' 2>/dev/null || fail "Debian's python3 has no yaml: please install python3-yaml"
if [ $# -gt 0 ]; then
    binaries=$1
else
    .ci/static-build
    binaries=${CARGO_TARGET_DIR:-target}/static
fi

check "kustomize, kubeconform and the operator's definitions are here" install_tools
for overlay in $overlays; do
    render "$overlay" >"$work/$overlay.yaml" || fail "overlay $overlay"
    say "ok: overlay $overlay is rendered, $(grep -c '^kind:' "$work/$overlay.yaml") objects"
done
check "the Prometheus operator is asked for by outside-monitored alone" same "$work/outside-monitored.yaml" \
    "$(grep -l monitoring.coreos.com "$work"/*.yaml)"
for version in $kubernetes_versions; do
    swagger=$(module k8s.io/kubernetes "v$version")/api/openapi-spec/swagger.json
    check "the schemas of $version" kubernetes/testing/schemas.py "$work/$version" "$swagger" "$crds"/*servicemonitors.yaml
    for overlay in $overlays; do
        check "overlay $overlay is valid for $version" "$tools/bin/kubeconform-$kubeconform" -strict -summary \
            -schema-location "$work/$version/{{ .ResourceKind }}{{ .KindSuffix }}.json" "$work/$overlay.yaml"
    done
    # A schema that takes anything proves nothing.
    sed 's/terminationGracePeriodSeconds/terminationGracePeriodSecond/' "$work/try.yaml" >"$work/wrong.yaml"
    check "and a misspelt field is not" bash -c "! $tools/bin/kubeconform-$kubeconform -strict \
        -schema-location '$work/$version/{{ .ResourceKind }}{{ .KindSuffix }}.json' $work/wrong.yaml"
done
for overlay in $overlays; do
    check "overlay $overlay fits itself and the binaries" kubernetes/testing/fits.py "$work/$overlay.yaml" "$binaries"
    check "its network policies let through what they are to, and nothing else" kubernetes/testing/reach.py "$work/$overlay.yaml"
done
echo "$passed passed, 0 failed"
