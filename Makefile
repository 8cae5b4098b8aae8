# Everything a newcomer or CI does with Baton, by name. `make` alone lists it.

TOOLS := $(or $(BATON_TOOLS),$(CURDIR)/.baton/tools)
export PATH := $(TOOLS)/bin:$(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)
# Given with ONCE=1: the demo plays its story and ends, with exit code 0 only if every promise held.
ONCE ?=

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev build demo test test-slow chaos bench-ha fmt clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## Install what is missing to build and run (PostgreSQL, Redis, a C compiler)
	@ops/setup

setup-dev:
	@ops/setup --dev

build: setup ## Build the program into target/debug/baton
	cargo build --locked

demo: build ## Play a failover on this machine and stay up; ONCE=1 ends after the story
	target/debug/baton demo $(if $(ONCE),--once)

test: setup-dev ## Check format and lints, run the tests, build the docs, check the dependencies
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo nextest run --locked --workspace
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps
	cargo deny --locked check bans licenses sources

test-slow: setup-dev ## Run the tests that take minutes: those marked #[ignore = "slow: ..."]
	cargo nextest run --locked --workspace --profile slow --run-ignored only --no-capture

chaos: setup-dev ## Disturb a cluster at random: SEED=... FAULTS=1000 MEMBERS=3
	$(if $(SEED),BATON_SEED=$(SEED)) BATON_CHAOS_FAULTS=$(or $(FAULTS),1000) BATON_CHAOS_MEMBERS=$(or $(MEMBERS),3) \
		cargo test --locked --test chaos nothing_is_doubled -- --ignored --nocapture

bench-ha: setup-dev ## Measure failovers, handovers and outages with real processes: KILLS=200 HANGS=30 SEED=...
	$(if $(SEED),BATON_SEED=$(SEED)) $(if $(KILLS),BATON_BENCH_KILLS=$(KILLS)) $(if $(HANGS),BATON_BENCH_HANGS=$(HANGS)) \
		cargo bench --locked $(if $(PROFILE),--profile $(PROFILE)) --bench leadership

fmt: ## Format the sources
	cargo fmt --all

clean: ## Delete what was built; fetched tools in .baton stay
	cargo clean
