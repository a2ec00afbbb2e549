# Stand-ins for the images of others, under the names that the compose files give them, on the docker daemon of DOCKER_HOST.
# They are made of Debian's packages, Maven's jars and Go's modules. Whoever sources this has sourced lib.sh.
# shellcheck shell=bash disable=SC2154 # work is theirs

# What docker/ takes from others.
stand_ins_of_docker() {
    local postgresql
    postgresql=$(find /usr/lib/postgresql -mindepth 1 -maxdepth 1 -printf '%f\n' 2>/dev/null | sort -n | tail -n 1)
    docker/testing/image-from-packages quay.io/coreos/etcd:v3.6.5 docker/testing/etcd etcd-server etcd-client dash coreutils
    docker/testing/image-from-packages postgres:17 docker/testing/postgres "postgresql-${postgresql:-15}" dash coreutils util-linux sed
}

# What monitor/ takes, all but Grafana.
stand_ins_of_monitor() {
    docker/testing/image-from-packages prom/prometheus:v3.15.0 docker/testing/prometheus prometheus busybox
    docker/testing/image-from-packages prom/alertmanager:v0.34.1 docker/testing/alertmanager prometheus-alertmanager busybox
    local go
    go=$(.ci/go)/go
    cp -r docker/testing/cadvisor "$work/"
    CGO_ENABLED=0 "$go" build -C "$work/cadvisor" -trimpath -ldflags "-s -w"
    docker/testing/image-from-packages ghcr.io/google/cadvisor:v0.57.0 "$work/cadvisor" busybox
}

# What tracer/ takes. Whoever calls it has called fetch_all of tracer/testing/fetch.sh.
stand_ins_of_tracer() {
    local java
    java=$(dpkg-query --search "$(realpath "$(command -v java)")" | cut -d : -f 1)
    docker/testing/image-from-packages testing/java docker/testing/java "$java" dash bash coreutils busybox curl
    stand_in openzipkin/zipkin:3.5.1 zipkin zipkin-server.jar="$zipkin_jars/zipkin-server.jar"
    stand_in docker.elastic.co/elasticsearch/elasticsearch:8.19.5 elasticsearch opensearch=tracer/testing/opensearch jars="$zipkin_jars/opensearch"
    stand_in openzipkin/zipkin-dependencies:3.2.1 dependencies jars="$zipkin_jars/dependencies" java11="${java11%/bin/java}"
}

# stand_in IMAGE FOLDER NAME=FILE...: what the Dockerfile of docker/testing/FOLDER makes of what is beside it and of FILEs.
stand_in() {
    local image=$1 context file
    context=$(mktemp -d "$work/context.XXXXXX")
    cp -r "docker/testing/$2/." "$context/"
    for file in "${@:3}"; do cp -r "${file#*=}" "$context/${file%%=*}"; done
    docker build --quiet --tag "$image" "$context" >"$work/build" 2>&1 || { cat "$work/build" >&2 && fail "no image $image"; }
    rm -rf "$context"
    echo "made $image"
}
