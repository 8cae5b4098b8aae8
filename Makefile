# Everything a newcomer or CI does with Baton, by name. `make` alone lists it.

TOOLS := $(or $(BATON_TOOLS),$(CURDIR)/.baton/tools)
export PATH := $(TOOLS)/bin:$(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)
# Most tests wait most of the time: five at once for two cores. Those that measure time run alone all the same.
TEST_THREADS ?= $(shell echo $$(($$(nproc) * 5 / 2)))
# Given with ONCE=1: the demo plays its story and ends, with exit code 0 only if every promise held.
ONCE ?=

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev setup-ops build demo test test-slow ops-test ops-docker dist reproducible sbom generate chaos soak bench-ha bench-orders bench-recovery bench-state bench-feed bench-restarts coverage-recovery fmt clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## Install what is missing to build and run (PostgreSQL, Redis, a C compiler)
	@ops/setup

setup-dev:
	@ops/setup --dev

setup-ops:
	@ops/setup --ops

build: setup ## Build the program into target/debug/baton
	cargo build --locked

demo: build ## Play a failover on this machine and stay up; ONCE=1 ends after the story
	target/debug/baton demo $(if $(ONCE),--once)

test: setup-dev ## Check format and lints, run the tests, build the docs, check the dependencies
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo nextest run --locked --workspace --test-threads $(TEST_THREADS)
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps
	cargo deny --locked --workspace check bans licenses sources

bench-recovery: setup-dev ## Time the recovery of up to 10 000 open positions and 1 000 open orders, in a release build: POSITIONS=10,10000
	$(if $(POSITIONS),BATON_BENCH_POSITIONS=$(POSITIONS)) cargo test --locked --release --test recovery bench:: -- --ignored --nocapture --test-threads=1

coverage-recovery: setup-dev ## Run recovery's tests instrumented; fails if less than 90 % of its lines are reached
	@ops/coverage

bench-state: setup-dev ## Time state queries, and orders beside 10 000 errors a second, in a release build
	cargo test --locked --release --test notify cost::bench -- --ignored --nocapture --test-threads=1

bench-feed: setup-dev ## Measure ticks a second and from tick to decision, and what an idle instance takes, in a release build
	cargo test --locked --release --lib -- --ignored --nocapture --test-threads=1 engine::tests::bench:: bench_a_place
	cargo test --locked --release --test cluster idle_bench:: -- --ignored --nocapture --test-threads=1

bench-restarts: setup-dev ## Time thirty rolling restarts and thirty restarts of PostgreSQL under load
	cargo test --locked --test cluster thirty_ -- --ignored --nocapture --test-threads=1

test-slow: setup-dev setup-ops ## Run the tests that take minutes: those marked #[ignore = "slow: ..."]
	cargo nextest run --locked --workspace --profile slow --run-ignored only -E 'not test(/(^|::)(bench|idle_bench)::|(^|::)(bench_|thirty_)/)' --no-capture
	$(MAKE) --no-print-directory bench-smoke ops-test

bench-smoke: setup-dev ## Run each program of figures briefly in a debug build: whether they run, not what they say
	BATON_BENCH_ONLY=journal BATON_BENCH_OUT=/dev/null $(MAKE) --no-print-directory bench-ha PROFILE=dev KILLS=2
	BATON_BENCH_OUT=/dev/null $(MAKE) --no-print-directory bench-orders PROFILE=dev ORDERS=8 SPAN_S=1 BURST=100

ops-test: build setup-ops ## Check image, compose project, chart, alerts, dashboards and runbook
	@ops/test/run

ops-docker: setup-ops ## Run the compose project on a Docker engine of its own, with agents killed and rolled (root)
	@ops/test/docker/run

dist: ## Build the static program that the image holds, into dist
	rustup --quiet target add $(shell uname -m)-unknown-linux-musl
	CC_x86_64_unknown_linux_musl=$(or $(shell command -v musl-gcc),cc) \
		cargo build --locked --release --bin baton --target $(shell uname -m)-unknown-linux-musl
	install -D target/$(shell uname -m)-unknown-linux-musl/release/baton dist/baton
	ops/static dist/baton
	install -m 644 /etc/ssl/certs/ca-certificates.crt dist/ca-certificates.crt

reproducible: ## Build this commit twice, at two places, and compare the programs: PROFILE=release TARGET=...
	@ops/reproducible

sbom: ## Write dist/baton.cdx.json: every crate that is linked in (CycloneDX)
	@mkdir -p dist
	ops/sbom >dist/baton.cdx.json

generate: setup-ops ## Write what follows from the sources of alerts and dashboards
	@$(TOOLS)/ops-python/bin/python ops/generate

# In a release build: the day's books grow with each order, and what a debug build takes to parse them is what would be tested.
chaos: setup-dev ## Disturb a cluster at random, in a release build: SEED=... FAULTS=1000 MEMBERS=3 PAUSE_MS=500 RESTING=1 PLANS=1
	$(if $(SEED),BATON_SEED=$(SEED)) BATON_CHAOS_FAULTS=$(or $(FAULTS),1000) BATON_CHAOS_MEMBERS=$(or $(MEMBERS),3) \
		BATON_CHAOS_PAUSE_MS=$(or $(PAUSE_MS),500) BATON_CHAOS_RESTING=$(or $(RESTING),0) BATON_CHAOS_PLANS=$(or $(PLANS),0) \
		cargo test --locked --release --test chaos nothing_is_doubled -- --ignored --nocapture

soak: setup-dev ## Load a cluster through late links with a leader that pauses, for MINUTES=30: SEED=...
	$(if $(SEED),BATON_SEED=$(SEED)) BATON_SOAK_MINUTES=$(or $(MINUTES),30) \
		cargo test --locked --test cluster soak::l3_ -- --ignored --nocapture

bench-ha: setup-dev ## Measure failovers, handovers and outages with real processes: KILLS=200 HANGS=30 SEED=...
	$(if $(SEED),BATON_SEED=$(SEED)) $(if $(KILLS),BATON_BENCH_KILLS=$(KILLS)) $(if $(HANGS),BATON_BENCH_HANGS=$(HANGS)) \
		cargo bench --locked $(if $(PROFILE),--profile $(PROFILE)) --bench leadership

bench-orders: setup-dev ## Time orders from the webhook to the bridge, their rate, a burst: ORDERS=400 SPAN_S=10 BURST=10000 SEED=...
	$(if $(SEED),BATON_SEED=$(SEED)) $(if $(ORDERS),BATON_BENCH_ORDERS=$(ORDERS)) $(if $(SPAN_S),BATON_BENCH_SECONDS=$(SPAN_S)) \
		$(if $(BURST),BATON_BENCH_BURST=$(BURST)) \
		cargo bench --locked $(if $(PROFILE),--profile $(PROFILE)) --bench orders

fmt: ## Format the sources
	cargo fmt --all

clean: ## Delete what was built; fetched tools in .baton stay
	cargo clean
