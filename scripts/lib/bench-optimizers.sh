#!/bin/sh
# Measures the update of every optimizer beside AdamW's, each in a process of its own, and prints one table. See scripts/bench.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
owt=${OWT:-$here/../owt}
steps=6 dtype=float32 device=auto rows=''
full='adamw adamw_8bit lion lion_8bit ademamix ademamix_8bit adafactor adafactor_torch sgd schedule_free_adamw muon galore_adamw apollo_adamw'
paged='paged_adamw paged_adamw_8bit paged_lion paged_lion_8bit paged_ademamix paged_ademamix_8bit'
lora='adamw lora_fa riemannian_adamw'

fail() {
    echo "error: $*" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
    --help | -h) echo "Usage: scripts/bench optimizers [--rows NAME,...] [--dtype float32|bfloat16] [--steps N] [--device NAME] [-- OPTIONS of owt bench train]" && exit 0 ;;
    --steps | --dtype | --device | --rows)
        [ $# -gt 1 ] || fail "$1 needs a value"
        case $1 in
        --steps)
            case $2 in
            '' | *[!0-9]* | 0) fail "$1 must be a whole number of at least 1, not '$2'" ;;
            esac
            steps=$2
            ;;
        --dtype) dtype=$2 ;;
        --device) device=$2 ;;
        --rows) rows=$2 ;;
        esac
        shift 2
        ;;
    --) shift && break ;;
    *) fail "'$1' is no option of scripts/bench optimizers" ;;
    esac
done

for row in $(echo "$rows" | tr ',' ' '); do
    case " $full $paged $lora " in *" $row "*) ;; *) fail "there is no optimizer '$row'; optimizers are $full $paged lora_fa riemannian_adamw" ;; esac
done

# A value of the last line of JSON in a text: value NAME TEXT.
value() {
    printf '%s\n' "$2" | sed -n 's/.*"'"$1"'": *\([-+0-9.eE]*\).*/\1/p' | tail -n 1
}

# The rows of a mode, beside AdamW's, which is measured first and again last; the shorter update counts, since a shared machine only makes it longer.
mode() {
    mode=$1 reference='' some=false && shift
    for name in "$@"; do case ,${rows:-$name}, in *",$name,"*) some=true ;; esac; done
    $some || return 0
    for name in adamw "$@" adamw; do
        case $name in adamw) ;; *) case ,${rows:-$name}, in *",$name,"*) ;; *) continue ;; esac ;; esac
        line=$("$owt" bench train --mode "$mode" --dtype "$dtype" --device "$device" --optimizer "$name" --steps "$steps" $options) || fail "$name could not be measured"
        update=$(value update_seconds "$line")
        if [ "$name" = adamw ]; then
            reference=$(awk -v a="$update" -v b="${reference:-$update}" 'BEGIN { print (a < b) ? a : b }')
        fi
        echo "$mode $name $update $(value step_seconds "$line") $(value optimizer_bytes "$line") $(value trained_parameters "$line") $(value peak_memory_bytes "$line")" >>"$work"
    done
    awk -v mode="$mode" -v reference="$reference" '$1 == mode && ($2 != "adamw" || $3 == reference) && !seen[$2]++ {
        printf "%-5s %-20s %9.1f ms %10.2f %9.0f ms %16.2f %8.0f MB\n", $1, $2, 1000 * $3, $3 / reference, 1000 * $4, $5 / $6, $7 / 1e6
    }' "$work"
}

options=$*
work=$(mktemp)
trap 'rm -f "$work"' EXIT
printf '%-5s %-20s %12s %10s %12s %16s %11s\n' mode optimizer update 'of AdamW' step 'bytes/parameter' 'peak'
set -- $full
shift
[ "$device" = cpu ] || [ "$device" = auto ] || set -- "$@" $paged
mode full "$@"
set -- $lora
shift
mode lora "$@"
