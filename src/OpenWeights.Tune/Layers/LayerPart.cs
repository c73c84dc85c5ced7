using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers;

/// <summary>A part of a decoder layer: a token mixer or a feed-forward. The layer adds its output to the residual stream.</summary>
/// <param name="name">The name of the part's type.</param>
internal abstract class LayerPart(string name) : nn.Module<Tensor, LayerContext, Tensor>(name)
{
    /// <summary>What the part saves for its backward, per token.</summary>
    internal abstract KeptElements Kept { get; }

    /// <summary>Computes the output of the part.</summary>
    /// <param name="input1">Hidden states, [batch, tokens, hidden].</param>
    /// <param name="input2">The other inputs of the layer in this forward pass.</param>
    /// <returns>The output, [batch, tokens, hidden].</returns>
    public override Tensor forward(Tensor input1, LayerContext input2)
    {
        ArgumentNullException.ThrowIfNull(input1);
        ArgumentNullException.ThrowIfNull(input2);
        return Run(input1, null, input2);
    }

    /// <summary>Computes the output of the part, [batch, tokens, hidden].</summary>
    /// <param name="states">Hidden states, [batch, tokens, hidden].</param>
    /// <param name="norm">Norm applied to the states first, or null.</param>
    /// <param name="context">The other inputs of the layer in this forward pass.</param>
    internal abstract Tensor Run(Tensor states, Norm? norm, LayerContext context);
}

/// <summary>A part that carries information from token to token: attention, a convolution, a recurrence.</summary>
/// <param name="name">The name of the part's type.</param>
internal abstract class TokenMixer(string name) : LayerPart(name)
{
    /// <summary>Creates the mixer's empty state for decoding with a cache. A forward pass receives it as <see cref="LayerContext.State"/>.</summary>
    internal abstract LayerState NewState();

    /// <summary>Size of the state after some tokens, in bytes.</summary>
    /// <param name="texts">The texts of a batch.</param>
    /// <param name="size">Bytes per element of the model's dtype.</param>
    internal abstract long StateBytes(CachedTexts texts, long size);
}

/// <summary>The texts of a batch that are decoded with a cache.</summary>
/// <param name="Rows">Number of texts.</param>
/// <param name="Prompt">Number of tokens that are read at once, before the first new one.</param>
/// <param name="Tokens">Number of tokens that have been read, the prompt's included.</param>
internal readonly record struct CachedTexts(long Rows, long Prompt, long Tokens);

/// <summary>Settings of a token mixer. Each kind of mixer has a derived record, which creates the mixer.</summary>
internal abstract record MixerSettings
{
    /// <summary>Name of the mixer in the checkpoint, relative to its layer; empty if its modules are the layer's.</summary>
    public abstract string ModuleName { get; init; }

    /// <summary>The inputs that the mixer needs in a forward pass.</summary>
    internal virtual MixerNeeds Needs => MixerNeeds.Nothing;

    /// <summary>Creates the mixer.</summary>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="name">Full name of the mixer in the checkpoint.</param>
    internal abstract TokenMixer Make(IWeightSource weights, string name);
}

/// <summary>Settings of a feed-forward. Each kind of feed-forward has a derived record, which creates it.</summary>
internal abstract record FeedForwardSettings
{
    /// <summary>Name of the feed-forward in the checkpoint, relative to its layer; empty where its modules are the layer's own.</summary>
    public abstract string ModuleName { get; init; }

    /// <summary>Number of experts per token; null without a router.</summary>
    internal virtual int? RoutedExperts => null;

    /// <summary>Creates the feed-forward.</summary>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="name">Full name of the feed-forward in the checkpoint.</param>
    internal abstract LayerPart Make(IWeightSource weights, string name);
}

/// <summary>What a part of a layer saves for its backward, and what that needs besides.</summary>
/// <param name="Always">What is saved in any case.</param>
/// <param name="Inputs">Inputs of its linear layers, saved only if backward needs them.</param>
/// <param name="Working">What exists besides at the moments of its backward when that is most; what is saved may be freed by then.</param>
/// <param name="Mixed">Elements per token, of the model's dtype, that selective checkpointing saves (<see cref="LayerContext.Saved"/>).</param>
/// <param name="OfRows">Further float32 elements per token that are saved, which depend on the number of rows; null for none.</param>
internal sealed record KeptElements(TokenMemory Always, IReadOnlyList<KeptInput> Inputs, IReadOnlyList<TokenMemory> Working, long Mixed = 0, Func<long, long>? OfRows = null);

/// <summary>Memory of tensors that grows with the number of tokens.</summary>
/// <param name="Own">Elements per token of the model's dtype.</param>
/// <param name="Floats">Elements per token that are float32 in every model.</param>
/// <param name="Widened">Elements per token that are copied to float32 if the model has another dtype.</param>
/// <param name="Limited">Bytes per token of what is computed for a limited number of tokens at a time.</param>
/// <param name="Limit">The most bytes of that.</param>
internal readonly record struct TokenMemory(long Own, long Floats = 0, long Widened = 0, long Limited = 0, long Limit = 0)
{
    private const long Float32 = 4;

    /// <summary>The sum of two.</summary>
    public static TokenMemory operator +(TokenMemory one, TokenMemory other) =>
        new(one.Own + other.Own, one.Floats + other.Floats, one.Widened + other.Widened, one.Limited + other.Limited, one.Limit + other.Limit);

    /// <summary>The difference of two.</summary>
    public static TokenMemory operator -(TokenMemory one, TokenMemory other) =>
        new(one.Own - other.Own, one.Floats - other.Floats, one.Widened - other.Widened, one.Limited - other.Limited, one.Limit - other.Limit);

    /// <summary>
    /// What backward of linear layers with a common input needs: the gradients of the outputs, of the input and of what that was computed from; in
    /// another dtype than float32 also the sum of the input's gradients, a product, and that product in float32.
    /// </summary>
    /// <param name="input">Width of the input.</param>
    /// <param name="output">Sum of the widths of the outputs.</param>
    internal static TokenMemory OfLinear(long input, long output) => new(output + (2 * input), Widened: 3 * input / 2);

    /// <summary>The memory in bytes.</summary>
    /// <param name="tokens">Number of tokens.</param>
    /// <param name="size">Bytes per element of the model's dtype.</param>
    internal long Bytes(long tokens, long size) => (tokens * ((Own * size) + (Float32 * (Floats + (size == Float32 ? 0 : Widened))))) + Math.Min(tokens * Limited, Limit);
}

/// <summary>An input shared by some linear layers.</summary>
/// <param name="Layers">The layers.</param>
/// <param name="Width">Elements per token.</param>
/// <param name="IsMadeAgain">Whether backward recomputes it from tensors that are saved in any case. Only with adapters that add a low-rank update.</param>
internal sealed record KeptInput(IReadOnlyList<LinearLayer> Layers, long Width, bool IsMadeAgain);
