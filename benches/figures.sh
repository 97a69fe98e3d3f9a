#!/usr/bin/env bash
# The first figures: one release node on a private MariaDB with default durability, generator on the same machine.
# Usage: benches/figures.sh [direct|room|idle|all] [seconds]. Prints the load tool's tables; JSON goes to $OUT if set.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-all}
seconds=${2:-10}
bin=${CARGO_TARGET_DIR:-target}/release/rookery
[ -x "$bin" ] || cargo build --release --locked
work=$(mktemp -d)
mkdir -p "$work/tmp"
ulimit -n "$(ulimit -Hn)" || true
cleanup() {
  [ -n "${node:-}" ] && kill -TERM "$node" 2>/dev/null && wait "$node" 2>/dev/null || true
  [ -n "${db:-}" ] && kill -TERM "$db" 2>/dev/null && wait "$db" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
free_port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
port=$(free_port)
TMPDIR="$work/tmp" mariadb-install-db --no-defaults --datadir="$work/data" --auth-root-authentication-method=normal --skip-test-db >"$work/install.log" 2>&1
mariadbd --no-defaults --user="$(id -un)" --datadir="$work/data" --tmpdir="$work/tmp" --socket="$work/db.sock" --port="$port" \
  --bind-address=127.0.0.1 --innodb-buffer-pool-size=1G --innodb-log-file-size=512M >"$work/db.log" 2>&1 &
db=$!
for _ in $(seq 100); do mariadb --no-defaults --socket="$work/db.sock" -uroot -e 'CREATE DATABASE IF NOT EXISTS rookery' 2>/dev/null && break; sleep 0.2; done
ROOKERY__ACCOUNTS__ARGON2_MEMORY_KIB=64 ROOKERY__ACCOUNTS__ARGON2_PASSES=1 \
  "$bin" serve --name bench --http-listen 127.0.0.1:0 --tcp-listen 127.0.0.1:0 --line-listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 \
  --cluster-listen 127.0.0.1:0 --database-url "mysql://root@127.0.0.1:$port/rookery" >"$work/node.out" 2>"$work/node.log" &
node=$!
for _ in $(seq 100); do grep -q '^rookery ready' "$work/node.out" && break; sleep 0.1; done
http=$(grep -o 'http=[^ ]*' "$work/node.out" | cut -d= -f2)
tcp=$(grep -o 'tcp=[^ ]*' "$work/node.out" | cut -d= -f2)
load() {
  local json=()
  [ -n "${OUT:-}" ] && json=(--json "$OUT/$name.json")
  "$bin" load --server "$http" --tcp-server "$tcp" --server-pid "$node" --database-pid "$db" --seconds "$seconds" "${json[@]}" "$@"
}
if [ "$what" = direct ] || [ "$what" = all ]; then
  name=direct load --payload 200 direct --pairs 250
fi
if [ "$what" = room ] || [ "$what" = all ]; then
  name=room load --payload 200 room --rooms 1 --members 1000
fi
if [ "$what" = idle ] || [ "$what" = all ]; then
  name=idle load --transport "${TRANSPORT:-ws-proto}" idle --connections ${CONNECTIONS:-10000}
fi
grep -c WARN "$work/node.log" | sed 's/^/warnings in the log of the node: /' || true
