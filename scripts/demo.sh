#!/usr/bin/env bash
# Starts a private stack with `clipstream dev`, uploads three clips as a user would, and shows what became of them.
#
#   make demo                  leaves the stack up until Ctrl-C
#   make demo DEMO=once        stops by itself; exit code 0 only if everything happened
#   make demo CLIP=path        your own file instead of the two that are made
#   make demo SPEECH=whisper   with a real speech engine (Whisper tiny.en on this machine)
set -euo pipefail
cd "$(dirname "$0")/.."
clipstream=target/debug/clipstream
dir=.clipstream
dev='' whisper='' words_expected=''

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

stop() {
  trap - EXIT INT TERM
  if [ -n "$dev" ]; then
    kill -INT "$dev" 2>/dev/null || true
    wait "$dev" || true
  fi
  if [ -n "$whisper" ]; then
    kill "$whisper" 2>/dev/null || true
    wait "$whisper" 2>/dev/null || true
  fi
}
trap stop EXIT
trap 'exit 130' INT TERM

if [ -n "${CLIP:-}" ] && [ ! -f "$CLIP" ]; then
  echo "CLIP=$CLIP: there is no such file (a path is taken from the project's directory)" >&2
  exit 1
fi
if [ -e "$dir/lock" ] && ! flock --nonblock "$dir/lock" true; then
  echo "a stack already runs in $dir; stop it first (Ctrl-C where it runs), or upload to it: see $dir/dev.env" >&2
  exit 1
fi

if [ "${SPEECH:-}" = whisper ]; then
  say "Starting Whisper (tiny.en) behind the OpenAI transcription API"
  engine=${XDG_CACHE_HOME:-$HOME/.cache}/clipstream/whisper
  mkdir -p "$dir"
  rm -f "$dir/whisper.url"
  "$engine/bin/python" scripts/whisper_server.py "$engine/model" >"$dir/whisper.url" 2>"$dir/whisper.log" & whisper=$!
  until [ -s "$dir/whisper.url" ]; do
    kill -0 "$whisper" 2>/dev/null || { cat "$dir/whisper.log" >&2; exit 1; }
    sleep 0.2
  done
  SPEECH_URL=$(cat "$dir/whisper.url")
  export SPEECH_ENGINE=http SPEECH_URL SPEECH_MODEL=tiny.en
  words_expected=yes
fi

say "Starting Postgres, Redis, MinIO and clipstream in $dir/"
rm -f "$dir/dev.env"
"$clipstream" dev --dir "$dir" & dev=$!
until [ -s "$dir/dev.env" ]; do
  kill -0 "$dev" 2>/dev/null || { echo "clipstream dev ended before it was ready; the lines above say why." >&2; dev=''; exit 1; }
  sleep 0.2
done
set -a
# shellcheck source=/dev/null  # Written by clipstream dev.
. "$dir/dev.env"
set +a

clips=$dir/demo
mkdir -p "$clips"
# A fresh number each time: a second run uploads bytes that the stack has not seen, so that its first clips are no duplicates.
seed=$(($(date +%s) % 1000))
if [ -n "${CLIP:-}" ]; then
  say "Your clip"
  name=$(basename -- "$CLIP")
  case $name in *.*) extension=.${name##*.} ;; *) extension='' ;; esac
  cp -- "$CLIP" "$clips/one$extension"
  cp -- "$CLIP" "$clips/copy$extension"
  set -- "one$extension" "copy$extension"
else
  say "Making two clips with picture, sound and speech, and a copy of the first"
  scripts/make-clip.sh "$clips/one.mp4" $((seed * 3)) 10 1280x720 "Welcome to clip stream. This clip number $seed was put straight to the bucket."
  scripts/make-clip.sh "$clips/two.mp4" $((seed * 3 + 1)) 8 854x480 "Number $seed again. A second clip, with other pictures and other words."
  cp "$clips/one.mp4" "$clips/copy.mp4"
  set -- one.mp4 two.mp4 copy.mp4
fi

for clip in "$@"; do
  say "clipstream upload $clip --watch"
  "$clipstream" upload "$clips/$clip" --title "$clip" --watch --json >"$clips/$clip.json"
done

DATABASE_URL=$DATABASE_URL WORDS_EXPECTED=$words_expected OWN_CLIP=${CLIP:+yes} python3 scripts/demo_report.py "$clips" "$@"

if [ "${DEMO:-}" = once ]; then
  say "Done. Stopping."
else
  say "The stack is up; Ctrl-C stops it. Its settings are in $dir/dev.env."
  code=0
  wait "$dev" || code=$?
  dev=''
  exit "$code"
fi
