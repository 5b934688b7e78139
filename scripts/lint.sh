#!/usr/bin/env bash
# Linters for everything that is not Rust: shell, YAML, the compose file, the Dockerfiles.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=${XDG_CACHE_HOME:-$HOME/.cache}/clipstream/test-tools/bin

echo '[lint] shell, YAML, compose file, Dockerfiles' >&2
git ls-files -z '*.sh' .ci/run | xargs -0 shellcheck
git ls-files -z '*.yml' '*.yaml' | xargs -0 yamllint --strict
"$tools/check-jsonschema" --quiet --builtin-schema vendor.compose-spec docker-compose.yml
git ls-files -z 'Dockerfile' '*/Dockerfile' | xargs -0 "$tools/hadolint"
