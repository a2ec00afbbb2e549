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
changed=false

# put MODE TARGET: writes standard input there, whole or not at all, when it differs.
put() {
    local mode=$1 target=$2
    mkdir -p "$(dirname "$target")"
    cat >"$target.new"
    if cmp -s "$target.new" "$target"; then
        rm "$target.new"
    else
        chmod "$mode" "$target.new" && mv "$target.new" "$target"
        changed=true && echo "wrote $target"
    fi
}

install_archive() {
    local unpacked
    unpacked=$(mktemp -d)
    tar --extract --gzip --file "$archive" --directory "$unpacked" --strip-components 1
    for file in "$unpacked"/bin/*; do put 755 "/usr/local/bin/${file##*/}" <"$file"; done
    for file in "$unpacked"/systemd/*; do put 644 "/etc/systemd/system/${file##*/}" <"$file"; done
    put 644 /usr/local/share/doc/microservice-app/README.md <"$unpacked/README.md"
    rm -rf "$unpacked"
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
        systemctl daemon-reload
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq etcd-server etcd-client
    fi
}

# start UNIT: now and whenever the machine starts; again if something it is made of has changed.
start() {
    systemctl daemon-reload
    systemctl enable --quiet "$1"
    if $changed; then systemctl restart "$1"; else systemctl start "$1"; fi
}

# healthy COMMAND...: asks until it says so.
healthy() {
    for _ in $(seq 120); do
        "$@" >/dev/null 2>&1 && echo "$(hostname) runs, at $LOCAL_IP" && return
        sleep 0.5
    done
    echo "$(hostname) is not ready after a minute:" >&2 && "$@"
}

install_archive
write_options
case $(hostname) in
node-0)
    install_etcd
    start etcd.service
    healthy etcdctl --endpoints="$ETCD_ENDPOINT" endpoint health
    ;;
node-1) service=feed ;;
node-2) service=profile ;;
node-3) service=topic ;;
node-4) service=apigateway ;;
*) echo "provision.sh: $(hostname) is none of node-0 to node-4" >&2 && exit 1 ;;
esac
if [ -n "${service:-}" ]; then
    start "microservice-app@$service.service"
    healthy "/usr/local/bin/$service" -healthcheck
fi
