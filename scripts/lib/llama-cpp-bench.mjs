// Times llama.cpp (npm node-llama-cpp) on a GGUF file: node llama-cpp-bench.mjs FOLDER MODEL.gguf PROMPT NEW THREADS BATCH...
// Prints a JSON line for each batch size, with the names that `owt bench generate` has.
import {createRequire} from "node:module";
import {pathToFileURL} from "node:url";

const [folder, path, ...numbers] = process.argv.slice(2);
const [prompt, made, threads, ...batches] = numbers.map(Number);
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(createRequire(`${folder}/package.json`).resolve("node-llama-cpp")));
const llama = await getLlama({gpu: false, build: "never", skipDownload: true, maxThreads: threads, logLevel: LlamaLogLevel.error, progressLogs: false});
const model = await llama.loadModel({modelPath: path, gpuLayers: 0, useMmap: false});
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

// The seconds until all texts have had each of their tokens.
async function times(sequences) {
    for (const sequence of sequences) await sequence.clearHistory();
    const start = performance.now();
    const all = await Promise.all(sequences.map(async (sequence, text) => {
        const ids = Array.from({length: prompt}, (_, i) => 3 + (text * 7919 + i * 104729) % 250);
        const own = [];
        for await (const _ of sequence.evaluate(ids, {temperature: 0, yieldEogToken: true})) {
            own.push((performance.now() - start) / 1000);
            if (own.length >= made) break;
        }
        return own;
    }));
    return Array.from({length: Math.min(...all.map((own) => own.length))}, (_, i) => Math.max(...all.map((own) => own[i])));
}

for (const batch of batches) {
    const context = await model.createContext({contextSize: prompt + made + 8, sequences: batch, batchSize: Math.max(512, batch), threads, flashAttention: false});
    const sequences = Array.from({length: batch}, () => context.getSequence());
    const [reading, steps] = [[], []];
    for (let i = 0; i <= 3; i++) {
        const found = await times(sequences);
        if (i > 0) {
            reading.push(found[0]);
            steps.push(...found.slice(1).map((time, j) => time - found[j]));
        }
    }
    await context.dispose();
    console.log(JSON.stringify({
        batch_size: batch,
        prompt_tokens_per_second: Math.round(10 * batch * prompt / median(reading)) / 10,
        decode_tokens_per_second: Math.round(10 * batch / median(steps)) / 10
    }));
}
process.exit(0);
