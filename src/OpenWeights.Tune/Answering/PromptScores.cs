using System.Runtime.InteropServices;
using OpenWeights.Tune.Decoding.Engine;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Answering;

/// <summary>How likely a model finds each token of a text after those before it.</summary>
internal static class PromptScores
{
    // Logits are as wide as the vocabulary.
    private const int TokensAtOnce = 64;

    /// <summary>The tokens with their log-probabilities and the likeliest ones at their places; the first has none.</summary>
    /// <param name="model">The model.</param>
    /// <param name="tokens">The text.</param>
    /// <param name="most">Number of likeliest tokens.</param>
    /// <param name="adapter">Name of the adapter, for a model whose adapters are active by row; null for the base.</param>
    internal static IReadOnlyList<GeneratedToken> Of(CausalLanguageModel model, IReadOnlyList<int> tokens, int most, string? adapter)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var ids = tensor(tokens.Select(static t => (long)t).ToArray(), device: model.Device).view(1, -1);
        var input = ModelInput.Rows(ids) with { Adapters = adapter is null ? null : [adapter] };
        var hidden = model.call(input);
        List<GeneratedToken> scored = [new GeneratedToken(tokens[0], 0, [], null, 0)];
        while (scored.Count < tokens.Count)
        {
            using var part = NewDisposeScope();
            var (from, count) = (scored.Count - 1, Math.Min(TokensAtOnce, tokens.Count - scored.Count));

            // The states that predict these tokens, as the last ones of a text that ends there.
            var places = input with { InputIds = ids.narrow(1, 0, from + count), PositionIds = input.PositionIds.narrow(1, 0, from + count) };
            var logProbs = model.Logits(hidden.narrow(1, from, count), places).squeeze(0).to(float32).log_softmax(-1);
            var own = Floats(logProbs.gather(1, ids.narrow(1, from + 1, count).view(-1, 1)));
            var (values, indexes) = logProbs.topk(Math.Max(1, most), -1);
            var (best, which) = (Floats(values), Longs(indexes));
            for (var i = 0; i < count; i++)
            {
                var at = i * Math.Max(1, most);
                scored.Add(new GeneratedToken(tokens[from + i + 1], own[i], [.. Enumerable.Range(at, most).Select(j => new TokenChance((int)which[j], best[j]))], null, 0));
            }
        }

        return scored;
    }

    private static float[] Floats(Tensor values) => MemoryMarshal.Cast<byte, float>(values.cpu().contiguous().bytes).ToArray();

    private static long[] Longs(Tensor values) => MemoryMarshal.Cast<byte, long>(values.cpu().contiguous().bytes).ToArray();
}
