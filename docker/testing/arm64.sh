#!/usr/bin/env bash
# The images for arm64, made and run on a machine that is none: cross-compiled, packed, and run by qemu-user-static in their
# containers. No part of `make e2e`, for it builds for some minutes.
#
#   docker/testing/arm64.sh [FOLDER]    FOLDER has static binaries for arm64; without it they are built, into target/arm64
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
# shellcheck source=docker/testing/lib.sh
. docker/testing/lib.sh
need dockerd docker.io && need etcd etcd-server && need curl curl && need python3 python3
need qemu-aarch64-static qemu-user-static && need aarch64-linux-gnu-strip gcc-aarch64-linux-gnu
binaries=${1:-}
if [ -z "$binaries" ]; then
    export CARGO_TARGET_DIR=$PWD/target/arm64
    .ci/static-build aarch64-unknown-linux-gnu
    binaries=$CARGO_TARGET_DIR/static
fi

finish() {
    local code=$?
    if [ "$code" != 0 ]; then for name in $(docker ps --all --format '{{.Names}}'); do echo "== $name" && docker logs --tail 10 "$name"; done; fi 2>&1
    docker/testing/daemon stop "$work/daemon" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap finish EXIT
environment=$(docker/testing/daemon start "$work/daemon")
eval "$environment"
http() { ip netns exec "$NETNS" curl --silent --show-error --max-time 20 "$@"; }
url=http://localhost:8080 debug=http://localhost:6060

say "images"
check "another platform than the binaries' is refused" bash -c "! docker/build.sh --local '$binaries' --platform linux/amd64"
check "the images are packed" docker/build.sh --local "$binaries" --platform linux/arm64
for command in apigateway feed profile topic; do
    read -r size platform <<<"$(docker image inspect --format '{{.Size}} {{.Os}}/{{.Architecture}}' "microservice-app/$command")"
    check "$command is for arm64" same linux/arm64 "$platform"
    check "$command is $((size / 1024)) KiB, at most 12 MiB" [ "$size" -le $((12 * 1024 * 1024)) ]
done

say "containers"
docker/testing/image-from-packages etcd docker/testing/etcd etcd-server dash coreutils
docker network create arm64 >/dev/null
docker run --detach --name etcd --network arm64 etcd /usr/local/bin/etcd --data-dir /etcd-data \
    --listen-client-urls http://0.0.0.0:2379 --advertise-client-urls http://etcd:2379 >/dev/null
# The kernel may not know what to do with another machine's program; so it is given qemu, with that for an argument.
run() { # COMMAND [OPTION...]
    docker run --detach --name "$1" --network arm64 --platform linux/arm64 --read-only --cap-drop ALL "${@:2}" --no-healthcheck \
        --volume "$(command -v qemu-aarch64-static):/qemu:ro" --entrypoint /qemu "microservice-app/$1" \
        "/$1" -etcd.addr=http://etcd:2379 >/dev/null
}
for command in feed profile topic; do run "$command"; done
run apigateway --publish 8080:8080 --publish 6060:6060
for service in feed profile topic; do eventually 60 "the gateway is connected to $service" connected "$debug" "$service" 1; done
for command in apigateway feed profile topic; do
    check "$command asks itself how it is" docker exec "$command" /qemu "/$command" -healthcheck
done
check "the README's curls" transcript "$url"
four_more "$url"
for command in apigateway feed profile topic; do
    check "$command is stopped" docker stop --time 30 "$command"
    check "and ends by itself" same 0 "$(docker inspect --format '{{.State.ExitCode}}' "$command")"
done
echo "$passed passed, 0 failed"
