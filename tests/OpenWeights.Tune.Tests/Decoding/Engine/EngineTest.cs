using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Decoding.Engine;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Decoding.Engine;

/// <summary>What the tests of the engine share.</summary>
internal static class EngineTest
{
    internal static async Task<List<GeneratedToken>> Whole(this TextEngine engine, TextRequest request, CancellationToken stop = default)
    {
        var tokens = new List<GeneratedToken>();
        await foreach (var token in engine.GenerateAsync(request, stop))
        {
            tokens.Add(token);
        }

        return tokens;
    }

    internal static async Task<int[]> Ids(this TextEngine engine, TextRequest request, CancellationToken stop = default) => [.. (await engine.Whole(request, stop)).Select(static t => t.Token)];

    /// <summary>Prompts of some lengths, no two alike.</summary>
    internal static int[][] Prompts(int vocabulary, params int[] lengths) =>
        [.. lengths.Select((length, row) => Enumerable.Range(0, length).Select(i => ((i * 37) + (row * 11) + (i * i * row)) % vocabulary).ToArray())];

    /// <summary>Writes a LoRA adapter that changes what a model says.</summary>
    internal static string WriteAdapter(TemporaryFolder folder, CausalLanguageModel model, string name, long seed, AdapterConfig? config = null)
    {
        using var adapter = PeftAdapter.Create(model, config ?? new LoraConfig { Rank = 3 }, seed);
        using (no_grad())
        {
            _ = manual_seed(seed);
            adapter.Layers.ToList().ForEach(static l => l.B.normal_(0, 0.2));
            foreach (var (_, virtualTokens) in adapter.Parts.OfType<PromptPart>().SelectMany(static p => p.Parameters))
            {
                _ = virtualTokens.normal_(0, 1);
            }
        }

        var path = folder.At(name);
        PeftFolder.Save(adapter, path, baseModel: null);
        return path;
    }

    /// <summary>Waits until something is so.</summary>
    internal static async Task Until(Func<bool> isSo)
    {
        while (!isSo())
        {
            await Task.Delay(1);
        }
    }
}
