#!/usr/bin/env bash
# The path of a clip in figures: PUT → webhook → first claim → playable → ready, and memory, against the ffmpeg command line
# that makes the same ladder. Writes bench/results/path.{md,json}. Needs `make setup`; takes about 10 minutes on two cores.
# The build is the one of `make demo`: libav does the work, and it is optimised there too.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --workspace --quiet
exec python3 bench/path.py target/debug/clipstream "$@"
