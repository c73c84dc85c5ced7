// Asks llama.cpp (npm node-llama-cpp) about GGUF files. Input: a JSON file with a list of {model, lora, ids, greedy, texts}.
// Output: a JSON line for each: {logits: [[...]] after each of ids, greedy: [ids], tokens: [[ids] of each text]}.
import {readFileSync} from "node:fs";
import {createRequire} from "node:module";
import {pathToFileURL} from "node:url";

const [folder, requestPath] = process.argv.slice(2);
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(createRequire(`${folder}/package.json`).resolve("node-llama-cpp")));
const llama = await getLlama({gpu: false, build: "never", skipDownload: true, maxThreads: 2, logLevel: LlamaLogLevel.error, progressLogs: false});

async function context(model, request) {
    return await model.createContext({contextSize: 256, batchSize: 256, threads: 2, flashAttention: false, experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32", lora: request.lora});
}

async function logits(model, request) {
    const ctx = await context(model, request);
    const results = await ctx.getSequence().controlledEvaluate(request.ids.map((id) => [id, {generateNext: {logits: true}}]));
    const rows = results.map((r) => [...r.next.logits.entries()].sort((a, b) => a[0] - b[0]).map((e) => e[1]));
    await ctx.dispose();
    return rows;
}

async function greedy(model, request) {
    const ctx = await context(model, request);
    const ids = [];
    for await (const token of ctx.getSequence().evaluate(request.ids, {temperature: 0, yieldEogToken: true})) {
        ids.push(token);
        if (ids.length >= request.greedy) break;
    }
    await ctx.dispose();
    return ids;
}

for (const request of JSON.parse(readFileSync(requestPath, "utf8"))) {
    try {
        const model = await llama.loadModel({modelPath: request.model, gpuLayers: 0, useMmap: false});
        const answer = {
            logits: request.ids ? await logits(model, request) : null,
            greedy: request.greedy ? await greedy(model, request) : null,
            tokens: request.texts ? request.texts.map((text) => [...model.tokenize(text, true)]) : null
        };
        console.log(JSON.stringify(answer));
        await model.dispose();
    } catch (error) {
        console.log(JSON.stringify({error: String(error)}));
    }
}
process.exit(0);
