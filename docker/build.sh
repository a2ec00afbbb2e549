#!/usr/bin/env bash
# Builds the images apigateway, feed, profile and topic.
#
#   docker/build.sh                       in containers, from this tree: needs nothing here but docker
#   docker/build.sh --local [FOLDER]      packs static binaries of this machine: needs no network. Without FOLDER it
#                                         builds them first, with cargo
#   --prefix NAME      images are NAME/feed:TAG and so on; default $IMAGE_PREFIX, else microservice-app
#   --tag TAG          default $IMAGE_TAG, else latest; the version of the tree is a second tag, always
#   --platform LIST    as docker's: linux/amd64, linux/arm64; another than this machine's needs its emulation
set -euo pipefail
cd "$(dirname "$0")/.."

prefix=${IMAGE_PREFIX:-microservice-app} tag=${IMAGE_TAG:-latest} platform="" local=false folder=""
while [ $# -gt 0 ]; do
    case $1 in
    --prefix) prefix=${2:?--prefix needs a name} && shift ;;
    --tag) tag=${2:?--tag needs a tag} && shift ;;
    --platform) platform=${2:?--platform needs a list} && shift ;;
    --local)
        local=true
        case ${2:-} in '' | --*) ;; *) folder=$2 && shift ;; esac
        ;;
    *) echo "build.sh: unknown argument $1 (its first lines tell all)" >&2 && exit 2 ;;
    esac
    shift
done

# Binaries are of this machine's kind, whatever an image says of itself.
if $local && [ -n "$platform" ]; then
    echo "build.sh: --local packs what was built for this machine; without it, --platform builds for others" >&2 && exit 2
fi
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
    # What these binaries say they are, which need not be this tree.
    version=$("$folder/feed" -version) && version=${version#* }
    for command in $commands; do
        file=$folder/$command
        [ -x "$file" ] || { echo "build.sh: $file is not there" >&2 && exit 1; }
        # A binary that needs a loader would not start in an image made from nothing.
        if LC_ALL=C readelf --program-headers "$file" | grep -q INTERP; then
            echo "build.sh: $file is not static: build it with .ci/static-build" >&2
            exit 1
        fi
        strip --strip-all -o "$context/$command" "$file"
    done
    cp /etc/ssl/certs/ca-certificates.crt "$context/" || { echo "build.sh: please install ca-certificates" >&2 && exit 1; }
    sed -n '/^FROM scratch/,$ { s|--from=build /out/||; p }' docker/Dockerfile >"$context/Dockerfile"
}

options=()
if $local; then
    pack
else
    context=. && options+=(--file docker/Dockerfile)
fi
[ -z "$platform" ] || options+=(--platform "$platform")
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
options+=(--build-arg "APP_VERSION=$version" --build-arg "APP_REVISION=$revision")
for command in $commands; do
    docker build "${options[@]}" --target "$command" \
        --tag "$prefix/$command:$tag" --tag "$prefix/$command:$version" "$context"
done
docker image ls --format '{{.Repository}}:{{.Tag}} {{.Size}}' --filter "reference=$prefix/*:$tag"
