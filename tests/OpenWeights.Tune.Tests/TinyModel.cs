using OpenWeights.Testing;
using OpenWeights.Tune.Init;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests;

/// <summary>A small model with random weights, made for a test without any file from elsewhere.</summary>
internal static class TinyModel
{
    internal const int Vocabulary = 96;

    internal static string Write(TemporaryFolder folder, string name = "model", bool tied = true, ScalarType dtype = ScalarType.Float32, long seed = 7)
    {
        var path = folder.At(name);
        var shape = new ModelShape { HiddenSize = 32, IntermediateSize = 48, Layers = 2, Heads = 4, KeyValueHeads = 2, VocabularySize = Vocabulary, MaxPositions = 128, TiedEmbeddings = tied };
        NewModel.Write("llama", shape, seed, dtype, path, addTokenizer: null);
        return path;
    }

    /// <summary>Rows of random tokens of different lengths, the first third of each not trained.</summary>
    internal static string WriteRows(TemporaryFolder folder, int count, string name = "rows.jsonl", int seed = 3)
    {
        var random = new Random(seed);
        var lines = Enumerable.Range(0, count).Select(_ =>
        {
            var ids = Enumerable.Range(0, random.Next(6, 20)).Select(_ => random.Next(Vocabulary)).ToArray();
            var labels = ids.Select((id, i) => i < ids.Length / 3 ? -100 : id);
            return $$"""{"input_ids": [{{string.Join(", ", ids)}}], "labels": [{{string.Join(", ", labels)}}]}""";
        });
        return folder.Write(name, string.Join('\n', lines) + "\n");
    }
}
