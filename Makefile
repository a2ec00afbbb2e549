# The two commands of the README: `make run` and `make test`. The others are parts of the second.

.PHONY: run build new-service test fmt unused clippy doc unit new-service-test faults prove bench bench-long deny dist e2e needs test-needs prove-needs bench-needs e2e-needs

CARGO ?= cargo
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# Installs what is needed, builds, and starts everything on this machine.
run: build
	@exec target/release/up

build: needs
	$(CARGO) build --release --locked

# Another service, wherever there is something for each: `make new-service NAME=order`.
new-service:
	@.ci/new-service "$(NAME)"

# Every check, in the order of what fails fastest.
test: test-needs fmt unused clippy doc unit new-service-test faults deny
	@echo "make test: all checks passed"

fmt:
	$(CARGO) fmt --all --check

unused:
	.ci/unused-dependencies

# The faults are no part of --all-targets, for they are tests that run only by name.
clippy:
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy --package cmd --test prove --locked -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

unit:
	$(CARGO) test --workspace --locked

# What `make new-service` makes is built, tested and called, in a copy of this tree.
new-service-test:
	.ci/new-service-test

# The faults that matter most, each as short as makes sense: after the other tests, not beside them. Built as they were.
faults:
	$(CARGO) test --workspace --locked --test prove

# Every fault, in its full length and of the release build, in about 35 minutes; the report is in target/prove/.
prove: test-needs prove-needs
	$(CARGO) test --release --locked -p cmd --test prove -- all

# The gateway and the feed service beside the least that does the same work; tables, and figures in target/bench/.
bench: bench-needs
	.ci/static-build
	RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) build --release --locked --target $$(rustc --print host-tuple) \
	  --manifest-path cmd/benches/ceiling/Cargo.toml --target-dir target/ceiling
	cmd/benches/bench
	$(CARGO) bench --locked --manifest-path cmd/benches/ceiling/Cargo.toml --target-dir target/ceiling

# Ten minutes of load, to see whether memory grows; after `make bench`, which builds.
bench-long:
	cmd/benches/bench memory --minutes 10

# Licences, sources and bans; advisories are checked by `cargo deny check` where the network allows.
deny:
	@command -v cargo-deny >/dev/null || { echo "installing cargo-deny"; $(CARGO) install --locked --version 0.20.2 cargo-deny; }
	$(CARGO) deny --locked check bans licenses sources

# The release: static archive, checksums, parts list; in dist/.
dist: needs
	.ci/dist

# Every way of deploying, run for real on this machine: containers, machines with systemd, Kubernetes' manifests. Needs root.
e2e: needs e2e-needs
	timeout --kill-after=60 25m .ci/e2e

# protoc builds the messages (ours and etcd's); etcd is the registry.
needs:
	@missing=""; \
	command -v protoc >/dev/null || missing="$$missing protobuf-compiler"; \
	command -v etcd >/dev/null || missing="$$missing etcd-server"; \
	$(INSTALL)

# What only the tests use.
test-needs: needs
	@missing=""; \
	command -v etcdctl >/dev/null || missing="$$missing etcd-client"; \
	command -v prometheus >/dev/null || missing="$$missing prometheus"; \
	command -v prometheus-alertmanager >/dev/null || missing="$$missing prometheus-alertmanager"; \
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$$missing postgresql"; \
	command -v curl >/dev/null || missing="$$missing curl"; \
	command -v pkill >/dev/null || missing="$$missing procps"; \
	command -v chromium >/dev/null || missing="$$missing chromium"; \
	command -v chromedriver >/dev/null || missing="$$missing chromium-driver"; \
	command -v sqlite3 >/dev/null || missing="$$missing sqlite3"; \
	command -v iptables >/dev/null || ls /usr/sbin/iptables >/dev/null 2>&1 || missing="$$missing iptables"; \
	command -v ip >/dev/null || ls /usr/sbin/ip >/dev/null 2>&1 || missing="$$missing iproute2"; \
	command -v groff >/dev/null || missing="$$missing groff-base"; \
	command -v man >/dev/null || missing="$$missing man-db"; \
	command -v zsh >/dev/null || missing="$$missing zsh"; \
	command -v fish >/dev/null || missing="$$missing fish"; \
	python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$$missing python3-venv"; \
	command -v java >/dev/null || missing="$$missing openjdk-17-jre-headless"; \
	command -v mvn >/dev/null || missing="$$missing maven"; \
	$(INSTALL)
	@$(MAKE) --no-print-directory target/venv/.made target/zipkin/zipkin-server.jar

# What only `make prove` uses.
prove-needs:
	@missing=""; \
	ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || missing="$$missing libfaketime"; \
	$(INSTALL)

# What only `make bench` uses.
bench-needs: needs
	@missing=""; \
	command -v wrk >/dev/null || missing="$$missing wrk"; \
	command -v strace >/dev/null || missing="$$missing strace"; \
	command -v valgrind >/dev/null || missing="$$missing valgrind"; \
	$(INSTALL)

# What `make e2e` uses. Debian's Go is too old for it, and fetches a newer one (.ci/go).
e2e-needs:
	@missing=""; \
	command -v go >/dev/null || missing="$$missing golang-go"; \
	command -v shellcheck >/dev/null || missing="$$missing shellcheck"; \
	command -v git >/dev/null || missing="$$missing git"; \
	command -v busybox >/dev/null || missing="$$missing busybox"; \
	command -v prometheus >/dev/null || missing="$$missing prometheus"; \
	command -v prometheus-alertmanager >/dev/null || missing="$$missing prometheus-alertmanager"; \
	ls /etc/ssl/certs/ca-certificates.crt >/dev/null 2>&1 || missing="$$missing ca-certificates"; \
	command -v dockerd >/dev/null || missing="$$missing docker.io"; \
	command -v docker-compose >/dev/null || missing="$$missing docker-compose"; \
	command -v etcdctl >/dev/null || missing="$$missing etcd-client"; \
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$$missing postgresql"; \
	command -v openssl >/dev/null || missing="$$missing openssl"; \
	command -v systemd-analyze >/dev/null || missing="$$missing systemd"; \
	command -v vagrant >/dev/null || missing="$$missing vagrant"; \
	command -v curl >/dev/null || missing="$$missing curl"; \
	command -v java >/dev/null || missing="$$missing openjdk-17-jre-headless"; \
	command -v mvn >/dev/null || missing="$$missing maven"; \
	python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$$missing python3-venv"; \
	command -v readelf >/dev/null || missing="$$missing binutils"; \
	command -v ip >/dev/null || missing="$$missing iproute2"; \
	command -v iptables >/dev/null || missing="$$missing iptables"; \
	/usr/bin/python3 -c 'import yaml' 2>/dev/null || missing="$$missing python3-yaml"; \
	for package in dbus procps init-system-helpers hostname mawk diffutils; do \
	  dpkg-query --show --showformat='$${db:Status-Status}' $$package 2>/dev/null | grep -qx installed || missing="$$missing $$package"; \
	done; \
	$(INSTALL)

# The programs that the contract tests run.
target/venv/.made: cmd/tests/requirements.txt
	@echo "installing $<"
	@python3 -m venv target/venv && target/venv/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

# The Zipkin that the tracing tests run.
target/zipkin/zipkin-server.jar: tracer/testing/zipkin/pom.xml
	@echo "fetching zipkin-server"
	@mvn --quiet --batch-mode --file $< dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/target/zipkin -Dmdep.stripVersion -Dmdep.stripClassifier
	@touch $@

# Installs what a recipe found missing.
define INSTALL
if [ -n "$$missing" ]; then \
	  command -v apt-get >/dev/null || { echo "please install:$$missing" >&2; exit 1; }; \
	  echo "installing$$missing"; \
	  $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing; \
	fi
endef
