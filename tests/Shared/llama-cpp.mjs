// Asks llama.cpp (npm node-llama-cpp) about GGUF files. Input: a JSON file with a list of {model, lora, ids, greedy, texts}.
// Writes a file with a JSON line for each: {logits: [[...]] after each of ids, greedy: [ids], tokens: [[ids] of each text]}.
import {readFileSync, writeFileSync} from "node:fs";
import {createRequire} from "node:module";
import {pathToFileURL} from "node:url";

const [folder, requestPath, answerPath] = process.argv.slice(2);
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(createRequire(`${folder}/package.json`).resolve("node-llama-cpp")));
// One thread: the models are small, and threads that wait for each other are slow where others want the processor too.
const llama = await getLlama({gpu: false, build: "never", skipDownload: true, maxThreads: 1, logLevel: LlamaLogLevel.error, progressLogs: false});

async function context(model, request) {
    return await model.createContext({contextSize: 256, batchSize: 256, threads: 1, flashAttention: false, experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32", lora: request.lora});
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

const answers = [];
for (const request of JSON.parse(readFileSync(requestPath, "utf8"))) {
    try {
        const model = await llama.loadModel({modelPath: request.model, gpuLayers: 0, useMmap: false});
        const answer = {
            logits: request.ids ? await logits(model, request) : null,
            greedy: request.greedy ? await greedy(model, request) : null,
            tokens: request.texts ? request.texts.map((text) => [...model.tokenize(text, true)]) : null
        };
        answers.push(JSON.stringify(answer));
        await model.dispose();
    } catch (error) {
        answers.push(JSON.stringify({error: String(error)}));
    }
}
writeFileSync(answerPath, answers.join("\n"));
process.exit(0);
