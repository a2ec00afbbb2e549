#!/usr/bin/env bash
# Makes this machine what its host name says: node-0 etcd, node-1 feed, node-2 profile, node-3 topic, node-4 apigateway.
# It may run again at any time: it changes, and restarts, only what is not as it should be.
#
# From the environment (see Vagrantfile):
#   LOCAL_IP        this machine's address in the private network
#   ETCD_ENDPOINT   etcd's URL, as http://192.168.50.10:2379
#   STORE_URL       where services keep records; default memory:
#   ZIPKIN_ADDR     zipkin's URL; default none
#   ARCHIVE         what vagrant/package.sh made; default /tmp/microservice-app.tar.gz
set -euo pipefail
: "${LOCAL_IP:?}" "${ETCD_ENDPOINT:?}"
archive=${ARCHIVE:-/tmp/microservice-app.tar.gz}
declare -A wrote=()

# put MODE TARGET: writes standard input there, whole or not at all, when it differs, and remembers that.
put() {
    local mode=$1 target=$2
    install -D --mode "$mode" /dev/stdin "$target.new"
    if cmp -s "$target.new" "$target"; then
        rm "$target.new"
    else
        mv "$target.new" "$target"
        wrote[$target]=yes && echo "wrote $target"
    fi
}

# renew UNIT FILE...: if the unit runs, and one of the files it is made of was written, it starts again.
renew() {
    local file
    for file in "${@:2}"; do
        if [ -n "${wrote[$file]:-}" ]; then
            echo "$1 starts again, if it runs"
            systemctl try-restart "$1"
            return
        fi
    done
}

install_archive() {
    local unpacked
    unpacked=$(mktemp -d)
    tar --extract --gzip --file "$archive" --directory "$unpacked" --strip-components 1
    for file in "$unpacked"/bin/*; do put 755 "/usr/local/bin/${file##*/}" <"$file"; done
    for file in "$unpacked"/systemd/*; do put 644 "/etc/systemd/system/${file##*/}" <"$file"; done
    put 644 /usr/local/share/doc/microservice-app/README.md <"$unpacked/README.md"
    rm -rf "$unpacked"
    systemctl daemon-reload
}

# Every machine can run every service: a second feed on node-2 is one `systemctl start` away.
write_options() {
    local common="-etcd.addr=$ETCD_ENDPOINT -zipkin.addr=${ZIPKIN_ADDR:-} -log.format=json"
    local store="-store.url=${STORE_URL:-memory:} -advertise.debug=on"
    # A URL may hold a password.
    put 600 /etc/microservice-app/feed.env <<<"OPTIONS=-addr=$LOCAL_IP:8082 $store $common"
    put 600 /etc/microservice-app/profile.env <<<"OPTIONS=-addr=$LOCAL_IP:8083 $store $common"
    put 600 /etc/microservice-app/topic.env <<<"OPTIONS=-addr=$LOCAL_IP:8084 $store $common"
    put 600 /etc/microservice-app/apigateway.env <<<"OPTIONS=-http.addr=$LOCAL_IP:8080 -discovery.cache=/var/lib/microservice-app/apigateway/instances.json $common"
    # For whoever logs in.
    put 644 /etc/profile.d/microservice-app.sh <<<"export LOCAL_IP=$LOCAL_IP ETCD_ENDPOINT=$ETCD_ENDPOINT"
}

install_etcd() {
    local port=${ETCD_ENDPOINT##*:}
    put 600 /etc/microservice-app/etcd.env <<<"OPTIONS=--name=node-0 --data-dir=/var/lib/etcd-registry --listen-client-urls=http://$LOCAL_IP:$port,http://127.0.0.1:$port --advertise-client-urls=$ETCD_ENDPOINT --auto-compaction-retention=1h"
    # After its unit, which takes precedence over the package's, so that the package starts ours.
    if ! [ -x /usr/bin/etcd ]; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq etcd-server etcd-client
    fi
    renew etcd.service /etc/systemd/system/etcd.service /etc/microservice-app/etcd.env
}

# Whatever runs here of the four: of feeds there may be a second one, on a machine that is for something else.
renew_services() {
    local unit units service
    units=$(systemctl list-units --plain --no-legend 'microservice-app@*.service' | cut -d ' ' -f 1)
    for unit in $units; do
        service=${unit#*@} && service=${service%.service}
        renew "$unit" "/usr/local/bin/$service" "/etc/systemd/system/microservice-app@.service" "/etc/microservice-app/$service.env"
    done
}

# healthy COMMAND...: asks until it says so; node-0, which may come up at the same time, fetches etcd first.
healthy() {
    for _ in $(seq 600); do
        "$@" >/dev/null 2>&1 && echo "$(hostname) runs, at $LOCAL_IP" && return
        sleep 0.5
    done
    echo "$(hostname) is not ready after five minutes:" >&2 && "$@"
}

install_archive
write_options
renew_services
case $(hostname) in
node-0)
    install_etcd
    systemctl enable --quiet --now etcd.service
    healthy etcdctl --endpoints="$ETCD_ENDPOINT" endpoint health
    ;;
node-1) service=feed ;;
node-2) service=profile ;;
node-3) service=topic ;;
node-4) service=apigateway ;;
*) echo "provision.sh: $(hostname) is none of node-0 to node-4" >&2 && exit 1 ;;
esac
if [ -n "${service:-}" ]; then
    # Whenever the machine starts, too.
    systemctl enable --quiet --now "microservice-app@$service.service"
    healthy "/usr/local/bin/$service" -healthcheck
fi
