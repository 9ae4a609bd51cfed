#!/bin/sh
# Runs all tests with the race detector. On Debian and Ubuntu, as root, it installs
# what the tests need; elsewhere it says what is missing.
set -eu
cd "$(dirname "$0")/.."

tools/check-go.sh

missing=
command -v gcc >/dev/null 2>&1 || command -v cc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"
for tool in curl openssl redis-server; do
  command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
done
# Chromium shows the pages.
command -v chromium >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || missing="$missing chromium"
# Node.js runs OAuth clients and an OpenID provider from npm.
command -v node >/dev/null 2>&1 || missing="$missing nodejs"
command -v npm >/dev/null 2>&1 || missing="$missing npm"
# Debian keeps the programs of the server, of which several versions may be there, off the path.
command -v initdb >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
# Root can cut a network for a test; anybody else puts a relay into it.
[ "$(id -u)" -ne 0 ] || command -v ip >/dev/null 2>&1 || missing="$missing iproute2"
# A test mounts a small disk in a namespace of its own.
command -v nsenter >/dev/null 2>&1 || missing="$missing util-linux"
command -v mount >/dev/null 2>&1 || missing="$missing mount"
if [ -n "$missing" ]; then
  if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -q
    # shellcheck disable=SC2086 # a list of package names
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
  else
    echo "The tests need, and this machine lacks:$missing" >&2
    exit 1
  fi
fi

# What package-lock.json names, and no scripts of theirs. Nothing is fetched when it
# is all there.
if ! cmp -s integration/npm/package-lock.json integration/npm/node_modules/.installed; then
  (cd integration/npm && npm ci --ignore-scripts --no-audit --no-fund)
  cp integration/npm/package-lock.json integration/npm/node_modules/.installed
fi

export CGO_ENABLED=1 # the race detector needs it
# SQLite is C translated to Go, with locks of its own that the race detector knows
# nothing of. Watched, it is ten times slower; its driver and our code are. Results
# are never those of an earlier run: tests of the whole binary build it themselves,
# of code that Go does not know them to depend on.
run() { go test -race -count=1 -gcflags=modernc.org/sqlite/lib=-race=false -gcflags=modernc.org/libc=-race=false "$@" ./...; }
run -timeout 15m
cd bench
run -timeout 5m
