#!/bin/sh
# Measures how much faster several ranks of one core each are than one process of one core, and prints one table. See scripts/bench.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
owt=${OWT:-$here/../owt}
ranks=2 steps=6 rounds=2 rows=lora,full,full:optimizer

fail() {
    echo "error: $*" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
    --help | -h) echo "Usage: scripts/bench ranks [--ranks N] [--steps N] [--rounds N] [--rows lora,full,full:optimizer,...]" && exit 0 ;;
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
    --rows)
        [ $# -gt 1 ] || fail "$1 needs a value"
        rows=$2
        shift 2
        ;;
    *) fail "'$1' is no option of scripts/bench ranks" ;;
    esac
done

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# A value of the last line of JSON on standard input.
value() {
    sed -n "s/.*\"$1\": *\([0-9.eE+-]*\).*/\1/p" | tail -n 1
}

# The larger of two numbers, with what belongs to it.
larger() {
    awk -v a="$1" -v b="$2" 'BEGIN { print (a + 0 > b + 0) ? a : b }'
}

# alone CORE FILE: a process of one core, on that core alone.
alone() {
    if command -v taskset >/dev/null 2>&1; then
        taskset -c "$1" env OMP_NUM_THREADS=1 "$owt" bench train --mode "$mode" --device cpu --steps "$steps" --checkpointing "$checkpointing" --json >"$2"
    else
        OMP_NUM_THREADS=1 "$owt" bench train --mode "$mode" --device cpu --steps "$steps" --checkpointing "$checkpointing" --json >"$2"
    fi
}

# As many processes at once that know nothing of each other: what the machine's memory and caches let ranks reach.
apart() {
    core=0 running=
    while [ "$core" -lt "$ranks" ]; do
        alone "$core" "$folder/apart.$core" &
        running="$running $!"
        core=$((core + 1))
    done
    for process in $running; do
        wait "$process"
    done
    cat "$folder"/apart.* | sed -n 's/.*"tokens_per_second": *\([0-9.eE+-]*\).*/\1/p' | awk '{ sum += $1 } END { print sum }'
}

# All take turns; the fastest of each counts, since a shared machine only makes runs slower.
printf '%-26s %10s %16s %10s %12s %15s %15s\n' row "1 core" "$ranks unconnected" "$ranks ranks" "of $ranks x 1" "of unconnected" communication
for row in $(echo "$rows" | tr , ' '); do
    mode=${row%%:*} shard=none one=0 bound=0 all=0 waited=0
    [ "$row" = "$mode" ] || shard=${row#*:}
    checkpointing=none
    case $shard in
    gradients | parameters) checkpointing=block ;;
    esac
    round=0
    while [ "$round" -lt "$rounds" ]; do
        round=$((round + 1))
        alone 0 "$folder/one"
        one=$(larger "$(value tokens_per_second <"$folder/one")" "$one")
        bound=$(larger "$(apart)" "$bound")
        OMP_NUM_THREADS=1 "$owt" launch --ranks "$ranks" --starter mpirun -- bench train --mode "$mode" --device cpu --steps "$steps" --shard "$shard" --checkpointing "$checkpointing" --json >"$folder/ranks"
        those=$(value tokens_per_second <"$folder/ranks")
        if [ "$(larger "$those" "$all")" = "$those" ]; then
            all=$those
            waited=$(awk -v n="$(value communication_seconds <"$folder/ranks")" -v s="$(value step_seconds <"$folder/ranks")" 'BEGIN { printf "%.1f %%", 100 * n / s }')
        fi
    done
    name=$mode
    [ "$shard" = none ] || name="$mode, shard: $shard"
    awk -v row="$name" -v n="$ranks" -v one="$one" -v bound="$bound" -v all="$all" -v waited="$waited" \
        'BEGIN { printf "%-26s %10.0f %16.0f %10.0f %12.3f %15.3f %15s\n", row, one, bound, all, all / (n * one), all / bound, waited }'
done
