#!/bin/sh
# Says in one line what is wrong with the Go installation, if anything is.
set -eu
cd "$(dirname "$0")/.."

need=$(awk '$1 == "go" { print $2; exit }' go.mod)
fail() {
  echo "$1 Go $need or newer is needed: https://go.dev/dl/" >&2
  exit 1
}

command -v go >/dev/null 2>&1 || fail "Go is not installed, or not in PATH."

# Since Go 1.21 an older go command fetches the toolchain that go.mod asks for.
# Asked inside this module, it names the version that will really build.
have=$(go env GOVERSION 2>/dev/null) || have=
here=$(cd / && GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) || here="an unknown version"
[ -n "$have" ] || fail "Found $here, which could not fetch a newer toolchain."

# number turns go1.26.8 into 1026008. A suffix such as rc1 is left out.
number() {
  echo "${1#go}" | awk -F '[^0-9]+' '{ printf "%d%03d%03d", $1, $2, $3 }'
}
case $have in
go[0-9]*) [ "$(number "$have")" -ge "$(number "$need")" ] || fail "Found $here, which is too old." ;;
*) ;; # a development build: let it try
esac
