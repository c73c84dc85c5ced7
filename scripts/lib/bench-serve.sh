#!/bin/sh
# Measures serving with a real client, and prints one table; scripts/bench serve runs it.
#
#   scripts/bench serve --model DIR_OR_FILE   chats of 64 new tokens of 1, 4 and 16 clients, each of which asks again as soon as it has its answer
#   --dtypes float32,bfloat16                 data types of the weights, one server after the other (default: the model's own, "auto")
#   --clients "1 4 16"                        numbers of clients
#   --rates "1 2"                             instead of clients: requests per second that come whether earlier ones are answered or not
#   --requests N                              requests of each client, or of each rate (4)
#   --new-tokens N                            tokens of an answer (64)
#   --quantization nf4|int8                   as owt serve has it
#   --llama-server PROGRAM --gguf FILE        llama.cpp's server with the same model as a GGUF file, measured in the same way beside it
#   --llama-library --gguf FILE               llama.cpp's library beside it: the same number of chats in one batch, without a server; what its server could
#                                             reach at most
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
owt=${OWT:-$here/owt}
model='' dtypes=auto clients='1 4 16' rates='' requests=4 tokens=64 quantization='' llama='' library=false gguf='' server=''

fail() {
    echo "error: $*" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
    --help | -h) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$0" && exit 0 ;;
    --llama-library) library=true ;;
    --model | --dtypes | --clients | --rates | --requests | --new-tokens | --quantization | --llama-server | --gguf)
        [ $# -ge 2 ] || fail "$1 needs a value"
        case $1 in
        --model) model=$2 ;;
        --dtypes) dtypes=$(echo "$2" | tr , ' ') ;;
        --clients) clients=$2 ;;
        --rates) rates=$2 ;;
        --requests) requests=$2 ;;
        --new-tokens) tokens=$2 ;;
        --quantization) quantization=$2 ;;
        --llama-server) llama=$2 ;;
        --gguf) gguf=$2 ;;
        esac
        shift
        ;;
    *) fail "'$1' is not an option of scripts/bench serve; see scripts/bench serve --help" ;;
    esac
    shift
done
[ -n "$model" ] || fail "scripts/bench serve needs --model DIR_OR_FILE"
[ -z "$llama" ] || [ -n "$gguf" ] || fail "--llama-server needs --gguf FILE, the same model for it"
if $library; then
    [ -n "$gguf" ] && [ -z "$rates" ] || fail "--llama-library needs --gguf FILE, the same model for it, and numbers of clients"
    # shellcheck source=scripts/lib/setup.sh
    . "$here/lib/setup.sh"
    root=$(dirname "$here")
    require_dotnet
    choose_runtime
    build tests/OpenWeights.Tune.Benchmarks/OpenWeights.Tune.Benchmarks.csproj benchmarks
fi

work=$(mktemp -d)
end() {
    [ -z "$server" ] || { kill "$server" 2>/dev/null && wait "$server" 2>/dev/null; } || true
    server=''
}
trap 'end; rm -rf "$work"' EXIT

# measure NAME ADDRESS: a line of the table for each number of clients or rate.
measure() {
    # shellcheck disable=SC2086 # several numbers
    if [ -n "$rates" ]; then
        "$owt" bench serve --url "$2" --rate $rates --requests "$requests" --new-tokens "$tokens"
    else
        "$owt" bench serve --url "$2" --clients $clients --requests "$requests" --new-tokens "$tokens"
    fi | while IFS= read -r line; do
        printf '%s\n' "$line" >>"$work/lines"
        of() { printf %s "$line" | sed -n "s/.*\"$1\":\([0-9.eE+-]*\).*/\1/p"; }
        load=$(of clients)
        [ -n "$load" ] || load="$(of rate)/s"
        printf '| %s | %s | %.1f | %.3f | %.3f | %.2f |\n' "$1" "$load" "$(of tokens_per_second)" "$(of first_token_median_s)" "$(of first_token_p95_s)" "$(of answer_median_s)"
    done
}

# wait_for ADDRESS: until the server answers, or has ended.
wait_for() {
    until curl -sf "$1/health" >/dev/null 2>&1; do
        kill -0 "$server" 2>/dev/null || fail "the server ended: $(cat "$work/log")"
        sleep 0.2
    done
}

echo "| server | clients | tokens/s | first token, median s | p95 s | answer, median s |"
echo "| --- | --- | --- | --- | --- | --- |"
for dtype in $dtypes; do
    "$owt" serve --model "$model" --dtype "$dtype" ${quantization:+--quantization "$quantization"} --port 0 --no-page >"$work/out" 2>"$work/log" &
    server=$!
    until grep -q '^serving' "$work/out"; do
        kill -0 "$server" 2>/dev/null || fail "owt serve ended: $(cat "$work/log")"
        sleep 0.2
    done
    measure "owt, $dtype${quantization:+, $quantization}" "$(sed -n 's/^serving .* at //p' "$work/out")"
    end
    if $library; then
        dotnet "$root/tests/OpenWeights.Tune.Benchmarks/bin/$runtime/Release/net10.0/OpenWeights.Tune.Benchmarks.dll" \
            llama-cpp-serve "$work/lines" "$gguf" "$requests" "$tokens" "$(nproc 2>/dev/null || echo 2)"
    fi
    rm -f "$work/lines"
done
if [ -n "$llama" ]; then
    port=$((20000 + $$ % 20000))
    "$llama" -m "$gguf" --port "$port" -np 16 -c 32768 >"$work/log" 2>&1 &
    server=$!
    wait_for "http://127.0.0.1:$port"
    measure "llama.cpp, $(basename "$gguf")" "http://127.0.0.1:$port"
    end
fi
