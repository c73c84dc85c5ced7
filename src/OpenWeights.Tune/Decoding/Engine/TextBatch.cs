using System.Runtime.InteropServices;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Decoding.Engine;

/// <summary>Some texts whose next tokens the model's own forward reads together: weights are read once for all of them, and each text sees nothing but itself.</summary>
/// <param name="model">The model.</param>
internal sealed class TextBatch(CausalLanguageModel model)
{
    private float[] _scores = [];

    /// <summary>Reads tokens of texts, whose number of tokens that are read is set.</summary>
    /// <param name="parts">The texts, with their caches and how many tokens are read.</param>
    /// <param name="adapters">Names of their adapters, one for each text where all read one token; otherwise one for all. Null if texts cannot name any.</param>
    /// <param name="wantsScores">Whether the logits are needed.</param>
    /// <returns>The logits after the last token of each, one after the other, valid until the next call; empty where they are not needed.</returns>
    internal Span<float> Read(IReadOnlyList<(EngineText Text, DecoderCache Cache, int Tokens)> parts, IReadOnlyList<string?>? adapters, bool wantsScores)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        using var same = FewRowsProduct.SameSums();
        var areRows = parts.All(static p => p.Tokens == 1);
        long[] shape = areRows ? [parts.Count, 1] : [1, parts.Sum(static p => p.Tokens)];
        var ids = Sent(parts.SelectMany(static p => p.Text.Tokens.GetRange(p.Text.Read, p.Tokens)), shape);
        var positions = Sent(parts.SelectMany(static p => Enumerable.Range(p.Text.Read, p.Tokens)), shape);
        var (texts, lasts) = (new List<ModelInput>(), new List<int>());
        foreach (var (text, cache, tokens) in parts)
        {
            var start = lasts.Count == 0 ? 0 : lasts[^1] + 1;
            Tensor Own(Tensor all) => all.view(-1).narrow(0, start, tokens).view(1, tokens);
            texts.Add(new ModelInput { InputIds = Own(ids), PositionIds = Own(positions), LongestPosition = text.Read + tokens - 1, Cache = cache });
            lasts.Add(start + tokens - 1);
        }

        var input = new ModelInput { InputIds = ids, PositionIds = positions, LongestPosition = texts.Max(static t => t.LongestPosition), Texts = texts, Adapters = adapters };
        var states = model.call(input);
        var scores = Span<float>.Empty;
        if (wantsScores)
        {
            var logits = model.Logits(areRows ? states : states.index_select(1, Sent(lasts, [lasts.Count])), input).to(float32).cpu().contiguous();
            _scores = _scores.Length >= logits.numel() ? _scores : new float[logits.numel()];
            scores = _scores.AsSpan(0, (int)logits.numel());
            MemoryMarshal.Cast<byte, float>(logits.bytes).CopyTo(scores);
        }

        foreach (var (text, _, tokens) in parts)
        {
            text.Read += tokens;
        }

        return scores;
    }

    /// <summary>Passes the logits of texts on.</summary>
    /// <param name="texts">The texts.</param>
    /// <param name="scores">Their logits, one after the other.</param>
    /// <param name="taker">Takes them.</param>
    internal static void Give(IReadOnlyList<EngineText> texts, Span<float> scores, IScoreTaker taker)
    {
        var vocabulary = scores.Length / texts.Count;
        for (var i = 0; i < texts.Count; i++)
        {
            taker.Take(texts[i], scores.Slice(i * vocabulary, vocabulary));
        }
    }

    private Tensor Sent(IEnumerable<int> values, long[] shape) => Devices.Send(tensor([.. values.Select(static v => (long)v)], shape), model.Device);
}
