#!/usr/bin/env bash
# Fuzzes what strangers send: the media child's messages, webhook bodies, keys. SECONDS_EACH=60 for each of the targets
# (or of those named as arguments). A finding ends it, and its input is kept in fuzz/artifacts. What was learnt is kept in
# fuzz/corpus and used again.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo_fuzz=0.13.2
# The sanitizers want unstable flags; no other toolchain is needed for them. libFuzzer is C++, and Debian's clang is here.
export RUSTC_BOOTSTRAP=1 CXX=clang++
cargo fuzz --version 2>/dev/null | grep -qF "$cargo_fuzz" || cargo install --locked --quiet "cargo-fuzz@$cargo_fuzz"
targets=("$@")
[ $# -gt 0 ] || mapfile -t targets < <(cargo fuzz list)
for target in "${targets[@]}"; do
  mkdir -p "fuzz/corpus/$target"
  echo "[fuzz] $target for ${SECONDS_EACH:-60} s" >&2
  cargo fuzz run "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
    -max_total_time="${SECONDS_EACH:-60}" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1
done
