#!/bin/sh
# Enriches a stack's configuration and becomes the stack: the entry point of a container.
#
#   llama-stack-entrypoint.sh RUN_YAML [ARGUMENTS OF THE STACK...]
#
# STACK_PROGRAM                  llama (the default) or ogx
# ENRICHED_RUN_YAML              where the enriched file goes; when unset, a private file below
#                                ~/.cache that each start with the same RUN_YAML overwrites
# LIGHTSPEED_STACK_CONFIG_PATH   the service's configuration, as `lightspeed-azure enrich` reads it
#
# OGX ends with "TLS required" unless RUN_YAML has server.tls_certfile and server.tls_keyfile. To serve
# plain HTTP, on one machine only, add its own option: --insecure.
#
# Exit code 2, and nothing started, when the configuration cannot be enriched: a stack that starts
# from the other file would have nobody's token. No key and no token is written or exported here;
# each request brings its own.
set -eu

fail() {
  printf '%s: %s\n' "${0##*/}" "$1" >&2
  exit 2
}

[ "$#" -ge 1 ] || fail "say which run.yaml: ${0##*/} RUN_YAML [ARGUMENTS...]"
source=$1
shift
program=${STACK_PROGRAM:-llama}
case $program in
  llama | ogx) ;;
  *) fail "STACK_PROGRAM is $program; it must be llama or ogx" ;;
esac
command -v "$program" >/dev/null || fail "$program is not installed here"
command -v lightspeed-azure >/dev/null || fail "lightspeed-azure is not installed here"

if [ -z "${ENRICHED_RUN_YAML:-}" ]; then
  folder=${XDG_CACHE_HOME:-${HOME:-/}/.cache}/lightspeed-azure
  mkdir -p "$folder" || fail "$folder cannot be created; set ENRICHED_RUN_YAML"
  chmod 700 "$folder" || fail "$folder belongs to another user; set ENRICHED_RUN_YAML"
  key=$(printf '%s' "$PWD/$source" | cksum | tr -dc '0-9 ' | tr ' ' -)
  ENRICHED_RUN_YAML=$folder/$key.yaml
fi
# The exit code is enrich's own only where the input is bad; whatever it is, nothing is started.
lightspeed-azure enrich "$source" --output "$ENRICHED_RUN_YAML" || fail "$source was not enriched"
[ -s "$ENRICHED_RUN_YAML" ] || fail "$ENRICHED_RUN_YAML is empty"

# With the format for people, each refusal of Azure's holds the whole stack up for seconds.
export LLAMA_STACK_LOG_FORMAT="${LLAMA_STACK_LOG_FORMAT:-json}"
export OGX_LOG_FORMAT="${OGX_LOG_FORMAT:-json}"

# exec: the stack gets the signals itself.
case $program in
  llama) exec llama stack run "$ENRICHED_RUN_YAML" "$@" ;;
  ogx) exec ogx run "$ENRICHED_RUN_YAML" "$@" ;;
esac
