# `make demo` shows clipstream at work, `make test` proves it. Both install what is missing on Debian 12 and share one build.
.DEFAULT_GOAL := help
.PHONY: help setup build demo test check lint fmt bench bench-queue fuzz chaos mutants fuzz-media upgrade

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: ## Set up, build, start a private stack, upload three clips and watch them. CLIP=path, DEMO=once, SPEECH=whisper
	@scripts/setup.sh demo
	@$(MAKE) --no-print-directory build
	@scripts/demo.sh

test: ## Set up, then formatting, clippy, docs, linters and every test on real services
	@scripts/setup.sh test
	@$(MAKE) --no-print-directory build check lint
	@echo '[test] running the tests on real Postgres, Redis and MinIO (about 5 minutes on two cores)' >&2
	@cargo test --workspace
	@echo '[test] planting a known bug, chosen by the commit: the faults have to turn red (about 3 minutes)' >&2
	@scripts/mutants.sh

setup: ## Install what is missing
	@scripts/setup.sh demo

build: ## Build the daemon
	@echo '[build] compiling (the first time about 8 minutes on two cores, later seconds)' >&2
	@cargo build --workspace

check: ## rustfmt, clippy, rustdoc: no warning passes
	@echo '[check] rustfmt, clippy and rustdoc (the first time about 4 minutes on two cores)' >&2
	@cargo fmt --all --check
	@cargo fmt --manifest-path fuzz/Cargo.toml --check
	@cargo clippy --workspace --all-targets --quiet -- -D warnings
	@CXX=clang++ cargo clippy --manifest-path fuzz/Cargo.toml --quiet -- -D warnings
	@RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --document-private-items --quiet

lint: ## Shell, YAML, compose file, Dockerfile, and whether the planted bugs still apply
	@scripts/lint.sh
	@scripts/mutants.sh check

fmt: ## Format the Rust sources
	@cargo fmt --all
	@cargo fmt --manifest-path fuzz/Cargo.toml

bench: ## Measure the path of a clip; writes bench/results
	@bench/path.sh

bench-queue: ## Measure job cycles, webhook and fairness against pgbench, 4 minutes after the release build; writes bench/results
	@cargo bench --workspace --bench queue

fuzz: ## Fuzz the child protocol, webhook bodies and keys. SECONDS_EACH=60
	@scripts/fuzz.sh

fuzz-media: ## Damaged files through the real media child. FUZZ_RUNS=500 FUZZ_SEED=n, or one alone: FUZZ_CASE=n
	@FUZZ_RUNS=$${FUZZ_RUNS:-500} cargo test --workspace --test it -- media_fuzz --nocapture

upgrade: ## The build before the newest migration and this one on one database; writes bench/results. Needs the history
	@scripts/setup.sh test
	@bench/upgrade.py

chaos: ## Every fault at full scale, about 35 minutes; writes bench/results. CHAOS_SEED replays, CHAOS_SCALE=0.05 is quick
	@scripts/setup.sh chaos
	@CHAOS_SCALE=$${CHAOS_SCALE:-1} CHAOS_LEASE_SECONDS=$${CHAOS_LEASE_SECONDS:-15} \
		CHAOS_WORLDS=$${CHAOS_WORLDS:-3} CHAOS_REPORT=$(CURDIR)/bench/results cargo test --workspace --test chaos

mutants: ## Plant each known bug in a copy and see the faults turn red; writes bench/results
	@scripts/setup.sh chaos
	@scripts/mutants.sh all
