#!/bin/sh
# Makes the quickstart's data and its base model again, from nothing: about ten minutes on two cores.
#
#   datasets/quickstart/make.sh
#
# The rows come out the same everywhere; the weights do on the same kind of machine.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
cd "$here"
rm -rf work
mkdir work
dotnet run make.cs -- work
cp work/train.jsonl work/eval.jsonl .
../../scripts/owt init --family llama --hidden-size 128 --intermediate-size 352 --layers 4 --heads 4 --kv-heads 2 \
    --vocab-size 512 --max-positions 256 --tokenizer-data work/base.jsonl --seed 1 --output work/untrained
../../scripts/owt train base.yaml "output_dir=$here/work/run"
cp work/run/model/* base/
echo "made again: $here/base"
