#!/bin/sh
# Builds ./caddy, starts it with Caddyfile.example and shows what to try next.
# Ctrl-C stops it. Nothing here needs root.
set -eu
cd "$(dirname "$0")/.."

tools/check-go.sh

# The ports of Caddyfile.example, and Caddy's admin endpoint.
taken=$(go run tools/freeports.go \
  8443="the sandbox" 9443="production" 8181="the demo upstream" 8182="publishing" 2019="Caddy's admin endpoint")
if [ -n "$taken" ]; then
  echo "$taken" >&2
  echo "Stop what listens there (lsof -i :PORT shows it; ./caddy stop stops a Caddy), or write other ports" >&2
  echo "into Caddyfile.example and start it with: ./xcaddy.build && ./caddy run --config Caddyfile.example" >&2
  exit 1
fi

echo "Building ./caddy. The first time takes some minutes."
./xcaddy.build

./caddy run --config Caddyfile.example &
server=$!
./caddy open-platform quickstart --wait 30s &
hints=$!

trap 'kill "$server" 2>/dev/null || :' INT TERM HUP
status=0
wait "$server" || status=$?
trap - INT TERM HUP
if [ "$status" -gt 128 ]; then # a signal ended the wait, so Caddy is still stopping
  status=0
  wait "$server" || status=$?
fi
kill "$hints" 2>/dev/null || :
exit "$status"
