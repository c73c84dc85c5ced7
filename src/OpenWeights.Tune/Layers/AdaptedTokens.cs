using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers;

/// <summary>
/// The tokens of the layer that is computed now to which an adapter applies that does not apply to all. Linear layers, which see only states, find them
/// here; a layer that is computed again in backward has them from its <see cref="LayerContext"/>.
/// </summary>
internal static class AdaptedTokens
{
    [ThreadStatic]
    private static Tensor? s_current;

    /// <summary>1 for a token to which the adapter applies and 0 for others, [batch, tokens, 1]; null where no layer is computed.</summary>
    internal static Tensor? Current => s_current;

    /// <summary>Sets the tokens until the result is disposed.</summary>
    /// <param name="tokens">The tokens; null for none.</param>
    internal static Span Use(Tensor? tokens)
    {
        var span = new Span(s_current);
        s_current = tokens;
        return span;
    }

    /// <summary>A time in which some tokens are adapted.</summary>
    /// <param name="before">The tokens before it.</param>
    internal readonly ref struct Span(Tensor? before)
    {
        /// <summary>Ends it.</summary>
        public void Dispose() => s_current = before;
    }
}
