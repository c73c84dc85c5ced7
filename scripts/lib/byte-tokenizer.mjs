// Writes a tokenizer of the 256 bytes into a model's folder, for a benchmark's random weights: node byte-tokenizer.mjs FOLDER
import {writeFileSync} from "node:fs";
import {join} from "node:path";

// GPT-2's letters for bytes: printable ones for themselves, others from U+0100 on.
const printable = (b) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
const bytes = Array.from({length: 256}, (_, b) => b);
const letters = [...bytes.filter(printable), ...bytes.filter((b) => !printable(b)).map((_, i) => 256 + i)].map((code) => String.fromCharCode(code));
const level = {type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true};
writeFileSync(join(process.argv[2], "tokenizer.json"), JSON.stringify({
    version: "1.0", added_tokens: [], normalizer: null, pre_tokenizer: level, post_processor: null, decoder: level,
    model: {type: "BPE", vocab: Object.fromEntries(letters.map((letter, id) => [letter, id])), merges: []}
}));
