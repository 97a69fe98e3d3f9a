#!/usr/bin/env bash
# One run each of the first figures; `benches/run` makes all of them, with medians.
# Usage: benches/figures.sh [direct|room|idle|all] [seconds]. JSON and pages go to $OUT, or to a folder that it names.
set -euo pipefail
what=${1:-all}
case $what in
  room) names=(room-1000) ;;
  all) names=(direct room-1000 idle) ;;
  *) names=("$what") ;;
esac
OUT=${OUT:-$(mktemp -d)}
export OUT RUNS=1 SECONDS_EACH=${2:-10}
"$(dirname "$0")/run" "${names[@]}"
echo "reports are in $OUT"
