#!/usr/bin/env bash
# Asks a node of its own whatever the API's description allows and forbids, and fails where an answer is a 500 or is not
# described. Needs schemathesis (pip install schemathesis) and curl; where that is absent, it says so and does nothing.
#   tests/schemathesis.sh [options of `schemathesis run`, such as --max-examples 200 or --seed 1]
# ROOKERY_BINARY names a built binary; without it, it is built.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v schemathesis >/dev/null; then
  echo "schemathesis.sh: schemathesis is not installed (pip install schemathesis); nothing was checked"
  exit 0
fi

binary=${ROOKERY_BINARY:-}
if [ -z "$binary" ]; then
  cargo build --locked --bin rookery
  binary=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/debug/rookery
fi
binary=$(realpath "$binary")

# The node, in a folder and on ports of its own; it stops when its standard input closes.
folder=$(mktemp -d)
export ROOKERY__GATEWAY__HTTP_LISTEN=127.0.0.1:0 ROOKERY__GATEWAY__TCP_LISTEN=127.0.0.1:0
export ROOKERY__GATEWAY__LINE_LISTEN=127.0.0.1:0 ROOKERY__ADMIN__LISTEN=127.0.0.1:0 ROOKERY__CLUSTER__LISTEN=127.0.0.1:0
export ROOKERY__STORAGE__URL="sqlite://$folder/rookery.db"
export ROOKERY__ACCOUNTS__ARGON2_MEMORY_KIB=8 ROOKERY__ACCOUNTS__ARGON2_PASSES=1
coproc node { cd "$folder" && exec "$binary" serve --stop-on-stdin-close 2>"$folder/log"; }
node_process=$node_PID
exec {node_input}>&"${node[1]}"
trap 'exec {node_input}>&-; kill "$node_process" 2>/dev/null || true; wait "$node_process" 2>/dev/null || true; rm -rf "$folder"' EXIT
read -r ready <&"${node[0]}"
address=$(sed 's/.* http=\([^ ]*\).*/\1/' <<<"$ready")
api="http://$address/api/v1"

ask() { curl --silent --show-error --fail --output /dev/null -X "$1" "$api$2" -H "Authorization: Bearer ${token:-}" -d "${3:-}"; }
sign_up() { token='' ask POST /users "{\"username\": \"$1\", \"password\": \"open sesame\"}"; }
# Its token.
sign_in() {
  curl --silent --show-error --fail "$api/sessions" -d "{\"username\": \"$1\", \"password\": \"open sesame\"}" |
    sed 's/.*"token":"\([^"]*\)".*/\1/'
}

checks=not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance
checks+=,response_headers_conformance,unsupported_method,allow_header_conformance,ignored_auth
# Bodies are taken leniently on purpose (numbers in strings, null, unknown fields), so that what a schema forbids is not
# always refused; and what it allows may be refused for what it can't say (a name that is taken): no checks of those.
run() {
  # In the node's folder, as it leaves a folder of its own where it runs.
  (cd "$folder" && exec schemathesis run "http://$address/api/openapi.json" --checks "$checks" --header "Authorization: Bearer $token" \
    --phases examples,coverage,fuzzing --warnings off --suppress-health-check all --continue-on-failure "${@}")
}

# Some people and conversations, so that small ids lead somewhere.
for name in ada bob eve; do sign_up "$name"; done
token=$(sign_in bob)
ask POST /conversations '{"name": "Engines", "join_policy": "open"}'
token=$(sign_in ada)
ask POST /conversations/1/join
ask POST /users/2/messages '{"client_id": "a1", "text": "Good morning"}'
ask POST /contacts '{"user_id": 2}'

# What ends the token comes last, each with a user of its own.
ends_token=(users_deactivate users_change_password life_erase sessions_sign_out_all sessions_sign_out_here sessions_sign_out_there)
others=()
for id in "${ends_token[@]}"; do others+=(--exclude-operation-id "$id"); done
failed=0
run "${others[@]}" "$@" || failed=1
for id in "${ends_token[@]}"; do
  sign_up "$id"
  token=$(sign_in "$id")
  run --include-operation-id "$id" "$@" || failed=1
done
# What the node itself holds against its answers.
if grep -E "panicked|ended in a bug" "$folder/log"; then failed=1; fi
exit "$failed"
