using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers;

/// <summary>A part of a decoder layer: it reads the residual stream, and its output is added to it.</summary>
/// <param name="name">The name of the part's type.</param>
public abstract class LayerPart(string name) : nn.Module<Tensor, LayerContext, Tensor>(name)
{
    /// <summary>What the part keeps of a token for its backward.</summary>
    internal abstract KeptElements Kept { get; }

    /// <summary>[batch, tokens, hidden] to [batch, tokens, hidden].</summary>
    public override Tensor forward(Tensor input1, LayerContext input2)
    {
        ArgumentNullException.ThrowIfNull(input1);
        ArgumentNullException.ThrowIfNull(input2);
        return Run(input1, null, input2);
    }

    /// <summary>The part's output.</summary>
    /// <param name="states">[batch, tokens, hidden].</param>
    /// <param name="norm">The norm that is applied to them first, or null.</param>
    /// <param name="context">What the forward pass tells the layer.</param>
    internal abstract Tensor Run(Tensor states, Norm? norm, LayerContext context);
}

/// <summary>A part that carries information from token to token: attention, a convolution, a recurrence.</summary>
/// <param name="name">The name of the part's type.</param>
public abstract class TokenMixer(string name) : LayerPart(name)
{
    /// <summary>What the mixer remembers before it has read a token. It gets it back as <see cref="LayerContext.State"/>.</summary>
    internal abstract LayerState NewState();
}

/// <summary>How a token mixer is made and computes. A new kind of mixer is a type derived from this and the mixer that it makes.</summary>
public abstract record MixerSettings
{
    /// <summary>The mixer's name in the checkpoint, within its layer; empty where its modules are the layer's.</summary>
    public abstract string ModuleName { get; init; }

    /// <summary>What the mixer needs of a forward pass.</summary>
    internal virtual MixerNeeds Needs => MixerNeeds.Nothing;

    /// <summary>The mixer.</summary>
    /// <param name="weights">Where weights come from.</param>
    /// <param name="name">The mixer's full name in the checkpoint.</param>
    internal abstract TokenMixer Make(IWeightSource weights, string name);
}

/// <summary>How a feed-forward is made and computes. A new kind is a type derived from this and the part that it makes.</summary>
public abstract record FeedForwardSettings
{
    /// <summary>The feed-forward's name in the checkpoint, within its layer.</summary>
    public abstract string ModuleName { get; init; }

    /// <summary>How many experts a router chooses for a token; null where there is no router.</summary>
    internal virtual int? RoutedExperts => null;

    /// <summary>The feed-forward.</summary>
    /// <param name="weights">Where weights come from.</param>
    /// <param name="name">The feed-forward's full name in the checkpoint.</param>
    internal abstract LayerPart Make(IWeightSource weights, string name);
}

/// <summary>What a part of a layer keeps of a token for its backward, in elements of the model's dtype.</summary>
/// <param name="Always">What its functions save whatever is trained.</param>
/// <param name="Inputs">The inputs of its linear layers, which are kept only where they are needed.</param>
/// <param name="Mixed">What selective checkpointing keeps of it (<see cref="LayerContext.Saved"/>).</param>
internal sealed record KeptElements(long Always, IReadOnlyList<KeptInput> Inputs, long Mixed = 0);

/// <summary>What some linear layers read.</summary>
/// <param name="Layers">The layers.</param>
/// <param name="Width">How many elements a token has there.</param>
/// <param name="IsMadeAgain">Whether backward computes it again from what is kept anyway, as long as adapters only add a low-rank update.</param>
internal sealed record KeptInput(IReadOnlyList<LinearLayer> Layers, long Width, bool IsMadeAgain);
