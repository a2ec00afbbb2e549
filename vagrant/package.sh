#!/usr/bin/env bash
# Makes the release archive of this tree and lays it beside the Vagrantfile, which hands it to the machines.
#   vagrant/package.sh [FOLDER]    FOLDER has static binaries; without it they are built
set -euo pipefail
cd "$(dirname "$0")/.."
.ci/dist "$@"
cp dist/microservice-app-*-linux-*.tar.gz vagrant/microservice-app.tar.gz
echo "vagrant/microservice-app.tar.gz is ready"
