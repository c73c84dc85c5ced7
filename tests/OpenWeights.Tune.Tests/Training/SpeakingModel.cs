using System.Text.Json.Nodes;
using OpenWeights.Testing;
using OpenWeights.Tune.Init;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Tests.Export;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Training;

/// <summary>A small model with random weights and a tokenizer of bytes, made for a test without any file from elsewhere.</summary>
internal static class SpeakingModel
{
    internal static string Write(TemporaryFolder folder, string name = "speaker")
    {
        var path = folder.At(name);
        var shape = new ModelShape { HiddenSize = 32, IntermediateSize = 48, Layers = 2, Heads = 4, KeyValueHeads = 2, VocabularySize = 256, MaxPositions = 256, TiedEmbeddings = true };
        NewModel.Write("llama", shape, seed: 7, float32, path, addTokenizer: null);
        ByteTokenizer.Write(path);
        return path;
    }

    /// <summary>Prompts with the completions that follow them, a row each.</summary>
    internal static string WritePairs(TemporaryFolder folder, int count, string name = "pairs.jsonl") => folder.Write(
        name, string.Join('\n', Enumerable.Range(0, count).Select(static i => new JsonObject { ["prompt"] = $"count {i}: ", ["completion"] = $"one two {i}" }.ToJsonString())) + "\n");
}
