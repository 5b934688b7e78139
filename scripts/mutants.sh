#!/usr/bin/env bash
# Proves that the chaos harness sees: plants a bug (tests/chaos/mutants/*.patch) in a scratch copy of the sources, runs the
# faults that it matters for, and expects the harness to turn red for the reason that the patch names. Above its diff a
# patch says: `faults`, `shows` (what must not be zero), and if need be `step` and `scale`.
#
#   scripts/mutants.sh          one bug, chosen by the commit: two to three minutes on two cores
#   scripts/mutants.sh all      every bug, with a table in bench/results/mutants.md
#   scripts/mutants.sh m01 …    those bugs
#   scripts/mutants.sh check    only whether every patch still applies
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$PWD/target/mutants
sources=$scratch/sources
patches=(tests/chaos/mutants/*.patch)
default_scale=${CHAOS_SCALE:-0.05}

say() { printf '[mutants] %s\n' "$*" >&2; }
field() { sed -n "s/^$2: //p" "$1" | head -n 1; } # patch, name of a line above its diff

# What is in the working tree. A file that did not change keeps its time, one that did gets a new one: cargo goes by it.
copy_sources() {
  local file
  mkdir -p "$sources"
  while IFS= read -r -d '' file; do
    [ -f "$file" ] || continue
    cmp -s "$file" "$sources/$file" || { mkdir -p "$sources/$(dirname "$file")" && cp "$file" "$sources/$file"; }
  done < <(git ls-files -z --cached --others --exclude-standard)
  while IFS= read -r -d '' file; do
    [ -e "$file" ] || rm "$sources/$file"
  done < <(cd "$sources" && find . -type f -print0)
}

# Compiled dependencies are shared as hard links: cargo replaces files and never writes into them. Our own crates are
# other packages there, since their paths differ. Shared again when there are other dependencies.
share_dependencies() {
  local stamp
  stamp=$scratch/target/$(cat Cargo.lock Cargo.toml pipeline/Cargo.toml | sha256sum | cut -c1-16)
  [ -f "$stamp" ] && return
  say 'sharing the compiled dependencies'
  rm -rf "$scratch/target"
  mkdir -p "$scratch/target/debug"
  cp -al target/debug/deps target/debug/build target/debug/.fingerprint "$scratch/target/debug/"
  touch "$stamp"
}

build() {
  (cd "$sources" && CARGO_TARGET_DIR=$scratch/target CARGO_INCREMENTAL=1 \
    cargo test --quiet --workspace --test chaos --no-run)
}

# Prints the outcome; 0 when the harness turned red as the patch says.
try() { # patch
  local patch=$1 name log faults scale begun
  name=$(basename "$patch" .patch)
  log=$scratch/$name.log
  begun=$SECONDS
  (cd "$sources" && patch --quiet -p1) <"$patch"
  if ! build >"$log" 2>&1; then
    (cd "$sources" && patch --quiet -p1 -R) <"$patch"
    say "$name: does not compile, see $log"
    return 1
  fi
  read -ra faults <<<"$(field "$patch" faults)"
  scale=$(field "$patch" scale)
  (cd "$sources" && CARGO_TARGET_DIR=$scratch/target CHAOS_STEP=$(field "$patch" step) CHAOS_SCALE=${scale:-$default_scale} \
    cargo test --quiet --workspace --test chaos -- "${faults[@]}") >"$log" 2>&1 || true
  (cd "$sources" && patch --quiet -p1 -R) <"$patch"
  local seen
  case $(field "$patch" shows) in
    lost) seen='[1-9][0-9]* lost' ;;
    duplicated) seen='[1-9][0-9]* duplicated' ;;
    late) seen='[1-9][0-9]* late' ;;
    secrets) seen='[1-9][0-9]* media children held a secret' ;;
    unkept) seen='[1-9][0-9]* webhook calls were answered 200 without a row' ;;
    *) say "$name: the patch does not say what it shows"; return 1 ;;
  esac
  if grep -q '^test result: FAILED' "$log" && grep -qE "$seen" "$log"; then
    outcome="red: $(grep -E "$seen" "$log" | head -n 1 | grep -oE "$seen" | head -n 1)"
    say "$name: $outcome ($((SECONDS - begun)) s)"
    # What a red run keeps for its reader: nobody reads this one.
    grep -oE '/[^ ,]*/clipstream-chaos-[A-Za-z0-9]+' "$log" | sort -u | xargs -r rm -rf
  else
    outcome='NOT SEEN'
    say "$name: not seen, see $log"
    tail -n 20 "$log" >&2
    return 1
  fi
}

check() {
  local patch
  for patch in "${patches[@]}"; do
    patch --quiet --dry-run -p1 <"$patch" || { say "$patch does not apply any more: renew it"; return 1; }
  done
}

case ${1:-one} in
  check) check; exit ;;
  one)
    commit=$(git rev-parse HEAD)
    chosen=("${patches[$((16#${commit:0:8} % ${#patches[@]}))]}")
    ;;
  all) chosen=("${patches[@]}") ;;
  *)
    chosen=()
    for name in "$@"; do chosen+=(tests/chaos/mutants/"$name"*.patch); done
    ;;
esac

check
copy_sources
share_dependencies
failed=0
table=$scratch/table
: >"$table"
for patch in "${chosen[@]}"; do
  outcome='does not compile'
  try "$patch" || failed=$((failed + 1))
  printf '| %s | %s | %s | %s |\n' "$(basename "$patch" .patch)" "$(head -n 1 "$patch" | sed 's/^M[0-9]*: //')" \
    "$(field "$patch" faults)" "$outcome" >>"$table"
done
if [ "${1:-one}" = all ]; then
  {
    echo '# Planted bugs'
    echo
    echo "Commit $(git describe --always --dirty). Command: \`make mutants\`. Each was planted in a scratch copy; the harness then ran"
    echo "these faults at $default_scale of full scale, and turned red or did not."
    echo
    echo '| bug | what it does | faults | harness |'
    echo '|---|---|---|---|'
    cat "$table"
  } >bench/results/mutants.md
fi
say "${#chosen[@]} planted, $failed not seen"
[ "$failed" = 0 ]
