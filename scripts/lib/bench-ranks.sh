#!/bin/sh
# Measures how much faster several ranks of one core each are than one process of one core, and prints one table. See scripts/bench.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
owt=${OWT:-$here/../owt}
ranks=2 steps=6 rounds=2

fail() {
    echo "error: $*" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
    --help | -h) echo "Usage: scripts/bench ranks [--ranks N] [--steps N] [--rounds N]" && exit 0 ;;
    --ranks | --steps | --rounds)
        [ $# -gt 1 ] || fail "$1 needs a value"
        case $2 in
        '' | *[!0-9]* | 0) fail "$1 must be a whole number of at least 1, not '$2'" ;;
        esac
        case $1 in
        --ranks) ranks=$2 ;;
        --steps) steps=$2 ;;
        --rounds) rounds=$2 ;;
        esac
        shift 2
        ;;
    *) fail "'$1' is no option of scripts/bench ranks" ;;
    esac
done

# A value of the last line of JSON on standard input.
value() {
    sed -n "s/.*\"$1\": *\([0-9.eE+-]*\).*/\1/p" | tail -n 1
}

# Ranks take turns with the process alone; the fastest of each counts, since a shared machine only makes runs slower.
printf '%-22s %14s %14s %10s %16s\n' row "1 core" "$ranks ranks" "of $ranks x 1" communication
for row in lora:none full:none full:optimizer; do
    mode=${row%%:*} shard=${row##*:} one=0 all=0 waited=0
    round=0
    while [ "$round" -lt "$rounds" ]; do
        round=$((round + 1))
        this=$(OMP_NUM_THREADS=1 "$owt" bench train --mode "$mode" --device cpu --steps "$steps" --json | value tokens_per_second)
        lines=$(OMP_NUM_THREADS=1 "$owt" launch --ranks "$ranks" --starter mpirun -- bench train --mode "$mode" --device cpu --steps "$steps" --shard "$shard" --json)
        those=$(printf '%s\n' "$lines" | value tokens_per_second)
        if [ "$(awk "BEGIN { print ($those > $all) }")" = 1 ]; then
            all=$those
            waited=$(printf '%s\n' "$lines" | awk -v n="$(printf '%s\n' "$lines" | value communication_seconds)" -v s="$(printf '%s\n' "$lines" | value step_seconds)" 'END { printf "%.1f %%", 100 * n / s }')
        fi
        one=$(awk "BEGIN { print ($this > $one) ? $this : $one }")
    done
    name=$mode
    [ "$shard" = none ] || name="$mode, shard: $shard"
    printf '%-22s %14s %14s %10s %16s\n' "$name" "$one" "$all" "$(awk "BEGIN { printf \"%.3f\", $all / ($ranks * $one) }")" "$waited"
done
