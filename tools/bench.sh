#!/bin/sh
# Runs the Go benchmarks, the side-by-side measurement of the gate, and that of
# push. Arguments go to the one of the gate: tools/bench.sh -runs 3. It needs
# PostgreSQL and Redis, as the tests do. See docs/performance.md.
set -eu
cd "$(dirname "$0")/.."

tools/check-go.sh

go test -run '^$' -bench . -benchmem ./internal/signing/... ./internal/limit/... ./internal/oauth/...
cd bench
go run ./cmd/gatebench "$@"
exec go run ./cmd/pushbench
