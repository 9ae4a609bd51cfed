#!/bin/sh
# Starts a whole cluster on this machine, as plain processes: PostgreSQL, Redis,
# three nodes with the same configuration, and a load balancer in front. Ctrl-C
# stops all of them. What ends meanwhile is started again, as a service manager
# would, so that you may kill what you like.
#
# It needs ./caddy (make build), Go, and the programs of PostgreSQL and Redis. No
# root: run as root, it runs PostgreSQL as the user postgres.
#
# In the environment, all optional:
#   CADDY         the program (default: ./caddy of the project)
#   DATA          a folder for everything that is kept (default: data beside this file)
#   RESTART       seconds until what has ended is started again (default: 5)
#   LB_PORT, LB_ADMIN_PORT, UPSTREAM_PORT, POSTGRES_PORT, REDIS_PORT,
#   NODE1_PORT, NODE1_ADMIN_PORT, ... NODE3_ADMIN_PORT
#                 ports; 0 takes a free one, and so does one that is taken
set -eu
here=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$here/../.." && pwd)
# Commands to try are run from the project's folder, so its paths are short.
cd "$project"
CADDY=${CADDY:-./caddy}
DATA=${DATA:-examples/cluster/data}
RESTART=${RESTART:-5}
export CADDY DATA

# --- What must be there ---

# Debian keeps PostgreSQL's programs off the path.
for dir in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/local/pgsql/bin /opt/homebrew/opt/postgresql*/bin; do
  if [ -d "$dir" ]; then PATH=$dir:$PATH; fi # the newest comes last, and so first
done
missing=
need() { # need PROGRAM WHAT-TO-DO
  command -v "$1" >/dev/null 2>&1 || {
    echo "$1 is not there: $2" >&2
    missing=1
  }
}
need "$CADDY" "build it with: make build"
need go "install Go (https://go.dev/dl)"
need postgres "install PostgreSQL: the package postgresql of Debian, Ubuntu and Homebrew, postgresql-server of Fedora"
need redis-server "install Redis: the package redis-server of Debian and Ubuntu, redis of Homebrew and Fedora"
need curl "install curl"
as_postgres= # what runs a command as a user that PostgreSQL accepts
if [ "$(id -u)" -eq 0 ]; then
  as_postgres="setpriv --reuid=postgres --regid=postgres --init-groups --"
  $as_postgres true 2>/dev/null || {
    echo "PostgreSQL does not run as root, and there is no user postgres or no setpriv (util-linux): run this as another user" >&2
    missing=1
  }
fi
[ -z "$missing" ] || exit 1

# --- Folder, secrets, ports ---

umask 077
mkdir -p "$DATA/redis" "$DATA/pid"
DATA=$(cd "$DATA" && pwd)
if [ -n "$as_postgres" ]; then
  chmod 711 "$DATA" # the files in it are this user's alone
  $as_postgres test -x "$DATA" || {
    echo "The user postgres cannot reach $DATA: set DATA to a folder that it can, such as /tmp/cluster" >&2
    exit 1
  }
fi
for f in "$DATA"/pid/*; do
  if [ -s "$f" ] && kill -0 "$(cat "$f")" 2>/dev/null; then
    echo "$(basename "$f") still runs in $DATA, process $(cat "$f"). Stop it first: kill $(cat "$f")" >&2
    exit 1
  fi
done
rm -f "$DATA"/pid/*

secret() { # secret NAME: 32 random bytes, made once
  [ -s "$DATA/$1" ] || od -An -v -N32 -tx1 /dev/urandom | tr -d ' \n' >"$DATA/$1"
  cat "$DATA/$1"
}
secret master.key >/dev/null
postgres_password=$(secret postgres.password)
redis_password=$(secret redis.password)

ports=$(go run "$here/ports.go" LB_PORT="${LB_PORT:-8443}" LB_ADMIN_PORT="${LB_ADMIN_PORT:-2020}" \
  UPSTREAM_PORT="${UPSTREAM_PORT:-8181}" POSTGRES_PORT="${POSTGRES_PORT:-5433}" REDIS_PORT="${REDIS_PORT:-6380}" \
  NODE1_PORT="${NODE1_PORT:-8501}" NODE1_ADMIN_PORT="${NODE1_ADMIN_PORT:-2021}" \
  NODE2_PORT="${NODE2_PORT:-8502}" NODE2_ADMIN_PORT="${NODE2_ADMIN_PORT:-2022}" \
  NODE3_PORT="${NODE3_PORT:-8503}" NODE3_ADMIN_PORT="${NODE3_ADMIN_PORT:-2023}")
eval "$ports"
export LB_PORT LB_ADMIN_PORT UPSTREAM_PORT NODE1_PORT NODE2_PORT NODE3_PORT

# What nodes are told. With a password in the environment and not in a file or
# an argument, only this user can read it.
export DATABASE_URL="postgres://platform:$postgres_password@127.0.0.1:$POSTGRES_PORT/platform?sslmode=disable"
export REDIS_URL="redis://platform:$redis_password@127.0.0.1:$REDIS_PORT/0"

# The catalog says where the business services are: the port of the stand-in.
sed "s/^x-open-upstream: .*/x-open-upstream: 127.0.0.1:$UPSTREAM_PORT/" examples/mall.openapi.yaml >"$DATA/mall.openapi.yaml"
export CATALOG="$DATA/mall.openapi.yaml"

# A user that may do what the platform does, and no more, with its own keys.
cat >"$DATA/redis/redis.conf" <<CONF
bind 127.0.0.1
port $REDIS_PORT
dir $DATA/redis
# Used nonces and limits must not be evicted. When the memory is full, calls are
# refused.
maxmemory 256mb
maxmemory-policy noeviction
# Quotas and nonces survive a restart, but for the last second.
appendonly yes
appendfsync everysec
user default off
user platform on >$redis_password ~op:* resetchannels -@all +hello +auth +select +ping +evalsha +eval +time +get +mget +set +pttl +pexpire +expire +sadd +srem +scard +sismember +zadd +zrem +zcard +zremrangebyscore +config|get
CONF

# --- Starting and stopping ---

# start NAME: in the background, with its output in a log and its process in pid/.
start() {
  log=$DATA/$1.log
  case $1 in
  postgres)
    # shellcheck disable=SC2086 # a command with its arguments, or nothing
    (cd / && exec $as_postgres postgres -D "$DATA/postgres" -p "$POSTGRES_PORT" -c listen_addresses=127.0.0.1 -c unix_socket_directories=) >>"$log" 2>&1 &
    ;;
  redis) redis-server "$DATA/redis/redis.conf" >>"$log" 2>&1 & ;;
  node*)
    eval "NODE_PORT=\$NODE${1#node}_PORT ADMIN_PORT=\$NODE${1#node}_ADMIN_PORT"
    export NODE_PORT ADMIN_PORT
    "$CADDY" run --config examples/cluster/node.Caddyfile --adapter caddyfile >>"$log" 2>&1 &
    ;;
  lb) "$CADDY" run --config examples/cluster/lb.Caddyfile --adapter caddyfile >>"$log" 2>&1 & ;;
  esac
  echo $! >"$DATA/pid/$1"
}

pid() { cat "$DATA/pid/$1" 2>/dev/null; }
alive() { [ -s "$DATA/pid/$1" ] && kill -0 "$(pid "$1")" 2>/dev/null; }

# stop NAME...: in order, also what was paused; what does not end is killed.
stop() {
  for name in "$@"; do
    signal=TERM
    [ "$name" != postgres ] || signal=INT # breaks off connections
    if alive "$name"; then
      kill -s "$signal" "$(pid "$name")" 2>/dev/null || : # Ctrl-C may have come first
      kill -s CONT "$(pid "$name")" 2>/dev/null || :
    fi
  done
  for name in "$@"; do
    tries=0
    while alive "$name"; do
      tries=$((tries + 1))
      [ "$tries" -lt 20 ] || kill -s KILL "$(pid "$name")" 2>/dev/null || :
      sleep 1
    done
    rm -f "$DATA/pid/$name"
  done
}

finish() {
  status=$?
  trap '' INT TERM HUP
  trap - EXIT
  stop lb node1 node2 node3
  stop redis postgres
  exit "$status"
}
trap finish EXIT
trap 'echo "Stopping."; exit 0' INT TERM HUP

# await NAME COMMAND...: until the command succeeds.
await() {
  name=$1
  shift
  tries=0
  until "$@" >/dev/null 2>&1; do
    tries=$((tries + 1))
    if ! alive "$name" || [ "$tries" -gt 60 ]; then
      echo "$name does not start:" >&2
      tail -n 20 "$DATA/$name.log" >&2
      exit 1
    fi
    sleep 1
  done
}
health() { curl -fsS --max-time 2 "http://127.0.0.1:$1/open_platform/health"; }

if [ ! -d "$DATA/postgres" ]; then
  echo "Making a database in $DATA/postgres."
  rm -rf "$DATA/postgres.new"
  mkdir "$DATA/postgres.new"
  [ -z "$as_postgres" ] || chown postgres "$DATA/postgres.new"
  (
    cd / # where the user postgres may be
    $as_postgres initdb --pgdata="$DATA/postgres.new" --username=postgres --auth-local=trust --auth-host=scram-sha-256 \
      --encoding=UTF8 --no-locale
    # The role owns its database and may do nothing else on the server.
    printf "CREATE ROLE platform LOGIN PASSWORD '%s'\nCREATE DATABASE platform OWNER platform\n" "$postgres_password" |
      $as_postgres postgres --single -D "$DATA/postgres.new" postgres
  ) >"$DATA/initdb.log" 2>&1 || {
    cat "$DATA/initdb.log" >&2
    exit 1
  }
  mv "$DATA/postgres.new" "$DATA/postgres"
fi

echo "Starting PostgreSQL, Redis, three nodes and a load balancer."
start postgres
start redis
await postgres pg_isready -q -h 127.0.0.1 -p "$POSTGRES_PORT"
# The first node makes the tables and the app of the sandbox.
start node1
await node1 health "$NODE1_ADMIN_PORT"
start node2
start node3
start lb
await node2 health "$NODE2_ADMIN_PORT"
await node3 health "$NODE3_ADMIN_PORT"
await node1 test -s "$DATA/sandbox-app.json"
root=$DATA/caddy/pki/authorities/local/root.crt
await lb test -s "$root"
await lb curl -sS --cacert "$root" "https://open.localhost:$LB_PORT/"

# --- What to try ---

data=${DATA#"$project"/}
credentials="--credentials $data/sandbox-app.json --cacert ${root#"$project"/}"
app=$(sed -n 's/.*"id": "\([^"]*\)".*/\1/p' "$DATA/sandbox-app.json")
cat <<TEXT

The cluster runs. Ctrl-C stops it; what it keeps is in $data, its logs are $data/*.log
In another terminal, in $project:

# 1. A signed call through the load balancer. X-Demo-Node says which node took it:
$CADDY open-platform curl $credentials https://sandbox.localhost:$LB_PORT/v1/products

# 2. How each node is, and what it relies on:
for port in $NODE1_ADMIN_PORT $NODE2_ADMIN_PORT $NODE3_ADMIN_PORT; do curl -s http://127.0.0.1:\$port/open_platform/health; done

# 3. A change through one node holds on all of them at once: call again in between.
$CADDY open-platform --address 127.0.0.1:$NODE3_ADMIN_PORT app suspend $app
$CADDY open-platform --address 127.0.0.1:$NODE1_ADMIN_PORT app resume $app

# 4. Kill a node, or PostgreSQL. Calls go on; what was killed is started again after $RESTART s.
kill -9 \$(cat $data/pid/node2)
kill -INT \$(cat $data/pid/postgres)

# 5. Halt Redis. Calls go on, health says what is down, nothing waits for it. Then let it go on.
kill -STOP \$(cat $data/pid/redis)
kill -CONT \$(cat $data/pid/redis)

# 6. Watch the nodes' logs, or how many nodes the load balancer takes for healthy:
tail -f $data/node*.log
curl -s http://127.0.0.1:$LB_ADMIN_PORT/reverse_proxy/upstreams

TEXT

# --- Start again what ends ---

while sleep 1; do
  for name in postgres redis node1 node2 node3 lb; do
    alive "$name" && continue
    echo "$name has ended; starting it again in $RESTART s. Its log: $data/$name.log"
    waited=0
    until [ "$waited" -ge "$RESTART" ]; do
      sleep 1 # and not longer: a signal is heard when sleep ends
      waited=$((waited + 1))
    done
    start "$name"
  done
done
