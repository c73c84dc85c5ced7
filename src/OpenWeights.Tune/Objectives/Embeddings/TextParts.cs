using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Embeddings;

/// <summary>The vector of a long text that is read a part at a time, so that memory does not grow with its length but for keys and values.</summary>
internal static class TextParts
{
    private const int Tokens = 256;

    /// <summary>Whether a text is long, and the model reads parts of it as it reads the whole.</summary>
    /// <param name="model">The model.</param>
    /// <param name="tokens">Number of tokens of the text.</param>
    /// <param name="adapter">Name of its adapter; null for the model as it is.</param>
    internal static bool Suit(CausalLanguageModel model, int tokens, string? adapter) =>
        tokens > Tokens && model.Stack is { IsBidirectional: false, Virtual: null } stack
        && stack.Invocations(Adapters(adapter), 1)?.All(static i => i is null) != false
        && stack.Layers.All(l => l.Needs.Rope?.AreSame(Tokens, tokens) != false);

    /// <summary>The vector, [1, hidden], as <see cref="TextEmbeddings.Of"/> makes it; in the caller's dispose scope.</summary>
    /// <param name="model">The model.</param>
    /// <param name="text">The tokens.</param>
    /// <param name="pooling">Which hidden states become the vector.</param>
    /// <param name="adapter">Name of the adapter; null for the model as it is.</param>
    internal static Tensor Of(CausalLanguageModel model, int[] text, EmbeddingPooling pooling, string? adapter)
    {
        using var scope = NewDisposeScope();
        using var cache = new DecoderCache();
        Tensor? pooled = null;
        for (var first = 0; first < text.Length; first += Tokens)
        {
            using var part = NewDisposeScope();
            var count = Math.Min(Tokens, text.Length - first);
            var hidden = model.call(new ModelInput
            {
                InputIds = tensor([.. text.AsSpan(first, count).ToArray().Select(static t => (long)t)], [1, count], device: model.Device),
                PositionIds = tensor([.. Enumerable.Range(first, count).Select(static p => (long)p)], [1, count], device: model.Device),
                LongestPosition = first + count - 1,
                Cache = cache,
                Adapters = Adapters(adapter),
            }).to(float32);
            var own = pooling == EmbeddingPooling.Last ? hidden.select(1, count - 1) : hidden.sum([1L]);
            pooled = (pooled is null || pooling == EmbeddingPooling.Last ? own : pooled + own).MoveToOuterDisposeScope();
        }

        using TorchSharp.Scalar divisor = pooling == EmbeddingPooling.Last ? 1f : text.Length;
        return TextEmbeddings.Normal(pooled!.div(divisor)).MoveToOuterDisposeScope();
    }

    private static IReadOnlyList<string?>? Adapters(string? adapter) => adapter is null ? null : [adapter];
}
