// Answers with an exported GGUF file, and perhaps a GGUF LoRA over it, by LLamaSharp: dotnet run -c Release -- MODEL.gguf QUESTION [LORA.gguf]
using System.Text;
using LLama;
using LLama.Common;
using LLama.Native;
using LLama.Sampling;

NativeLibraryConfig.All.WithLogCallback(static (_, _) => { });
var parameters = new ModelParams(args[0]) { ContextSize = 512, GpuLayerCount = 0 };
using var weights = LLamaWeights.LoadFromFile(parameters);
using var context = weights.CreateContext(parameters);
if (args.Length > 2)
{
    var lora = weights.NativeHandle.LoadLoraFromFile(args[2]);
    context.NativeHandle.SetLoraAdapters(new (LoraAdapter, float)[] { (lora, 1f) });
}

// The chat template is in the file, as are the tokens that end an answer.
var chat = new LLamaTemplate(weights) { AddAssistant = true };
_ = chat.Add("user", args[1]);
var prompt = Encoding.UTF8.GetString(chat.Apply());
var tokens = context.Tokenize(prompt, addBos: true, special: true);
var batch = new LLamaBatch();
for (var i = 0; i < tokens.Length; i++)
{
    _ = batch.Add(tokens[i], i, LLamaSeqId.Zero, logits: i == tokens.Length - 1);
}

using var greedy = new GreedySamplingPipeline();
var text = new StreamingTokenDecoder(context);
for (var place = tokens.Length; place < tokens.Length + 32; place++)
{
    _ = await context.DecodeAsync(batch);
    var token = greedy.Sample(context.NativeHandle, batch.TokenCount - 1);
    if (token.IsEndOfGeneration(weights.Vocab))
    {
        break;
    }

    text.Add(token);
    Console.Write(text.Read());
    batch.Clear();
    _ = batch.Add(token, place, LLamaSeqId.Zero, logits: true);
}

Console.WriteLine();
