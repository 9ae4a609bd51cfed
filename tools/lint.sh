#!/bin/sh
# Runs all linters: go vet and golangci-lint (which checks the format too) on both
# modules, then shellcheck. golangci-lint is built the first time: some minutes.
set -eu
cd "$(dirname "$0")/.."

tools/check-go.sh

go vet ./...
go tool -modfile=tools/go.mod golangci-lint run ./...
(
  cd bench
  go vet ./...
  go tool -modfile=../tools/go.mod golangci-lint run ./...
)

if command -v shellcheck >/dev/null 2>&1; then
  shellcheck xcaddy.build .ci/run tools/*.sh examples/cluster/*.sh
else
  echo "shellcheck is not installed: the scripts were not checked." >&2
fi
