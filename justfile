# The steps of .ci/run, one by one. `just` lists them.

_default:
    @just --list

# Everything that must hold.
ci:
    .ci/run

fmt:
    cargo fmt --check

lint:
    cargo clippy --all-targets -- -D warnings

test *args:
    cargo test {{args}}

# The main job, on the sample logs.
replay *args:
    cargo run --release -- replay sample-logs {{args}}

# Licences, advisories and sources of dependencies (needs cargo-deny).
deny:
    cargo deny check
