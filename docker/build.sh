#!/usr/bin/env bash
# Builds the images apigateway, feed, profile and topic.
#
#   docker/build.sh                       in containers, from this tree: needs nothing here but docker
#   docker/build.sh --local [FOLDER]      packs static binaries of this machine: needs no network. Without FOLDER it
#                                         builds them first, with cargo
#   --prefix NAME      images are NAME/feed:TAG and so on; default $IMAGE_PREFIX, else microservice-app
#   --tag TAG          default $IMAGE_TAG, else latest; the version of the tree is a second tag, always
#   --platform NAME    linux/amd64 or linux/arm64, one at a time; in containers, another than this machine's needs its
#                      emulation. With --local it is that of the binaries, and stripping another's needs binutils for it
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=.ci/binaries.sh
. .ci/binaries.sh

prefix=${IMAGE_PREFIX:-microservice-app} tag=${IMAGE_TAG:-latest} platform="" local=false folder=""
while [ $# -gt 0 ]; do
    case $1 in
    --prefix) prefix=${2:?--prefix needs a name} && shift ;;
    --tag) tag=${2:?--tag needs a tag} && shift ;;
    --platform) platform=${2:?--platform needs a name} && shift ;;
    --local)
        local=true
        case ${2:-} in '' | --*) ;; *) folder=$2 && shift ;; esac
        ;;
    *) echo "build.sh: unknown argument $1 (its first lines tell all)" >&2 && exit 2 ;;
    esac
    shift
done

commands="apigateway feed profile topic"
version=$(.ci/version)

# Static binaries, in a folder with nothing else, are the whole context of a local build.
pack() {
    context=$(mktemp -d)
    trap 'rm -rf "$context"' EXIT
    if [ -z "$folder" ]; then
        .ci/static-build
        folder=${CARGO_TARGET_DIR:-target}/static
    fi
    for command in $commands; do
        file=$folder/$command
        [ -x "$file" ] || { echo "build.sh: $file is not there" >&2 && exit 1; }
        # Binaries are of one machine's kind, whatever an image says of itself.
        architecture=$(architecture_of "$file")
        : "${platform:=linux/$architecture}"
        [ "$platform" = "linux/$architecture" ] ||
            { echo "build.sh: $file is for linux/$architecture, not $platform" >&2 && exit 1; }
        # A binary that needs a loader would not start in an image made from nothing.
        if LC_ALL=C readelf --program-headers "$file" | grep -q INTERP; then
            echo "build.sh: $file is not static: build it with .ci/static-build" >&2
            exit 1
        fi
        "$(tool_for "$file" strip)" --strip-all -o "$context/$command" "$file"
    done
    # What these binaries say they are, which need not be this tree.
    version=$(run_binary "$folder/feed" -version) && version=${version#* }
    cp /etc/ssl/certs/ca-certificates.crt "$context/" || { echo "build.sh: please install ca-certificates" >&2 && exit 1; }
    sed -n '/^FROM scratch/,$ { s|--from=build /out/||; p }' docker/Dockerfile >"$context/Dockerfile"
}

options=()
if $local; then
    pack
else
    context=. && options+=(--file docker/Dockerfile)
fi
if [ -n "$platform" ]; then
    options+=(--platform "$platform")
    # For another machine than its own, docker needs BuildKit, which an old one has to be asked for.
    [ "$platform" = "linux/$(docker version --format '{{.Server.Arch}}')" ] || export DOCKER_BUILDKIT=1
fi
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
options+=(--build-arg "APP_VERSION=$version" --build-arg "APP_REVISION=$revision")
for command in $commands; do
    docker build "${options[@]}" --target "$command" \
        --tag "$prefix/$command:$tag" --tag "$prefix/$command:$version" "$context"
done
docker image ls --format '{{.Repository}}:{{.Tag}} {{.Size}}' --filter "reference=$prefix/*:$tag"
