using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers;

/// <summary>Token embedding. Its weight is one parameter, so that a tied output head shares the tensor.</summary>
public sealed class TokenEmbedding : nn.Module<Tensor, Tensor>, IWeighted
{
    [ComponentName(Name = "weight")]
    private readonly Parameter _weight;

    private readonly WeightSlot _slot;

    /// <summary>Creates an embedding from its weight.</summary>
    /// <param name="weight">Weight, [vocabulary, hidden].</param>
    public TokenEmbedding(Parameter weight)
        : base(nameof(TokenEmbedding))
    {
        _weight = weight;
        _slot = new WeightSlot("weight", weight);
        RegisterComponents();
    }

    /// <summary>The weight, [vocabulary, hidden].</summary>
    public Parameter Weight => _slot.Current!;

    /// <inheritdoc/>
    public IReadOnlyList<WeightSlot> Slots => [_slot];

    /// <summary>The adapter on the embedding; null for none.</summary>
    public IEmbeddingAdapter? Adapter { get; set; }

    /// <summary>Embeds tokens: [batch, tokens] int64 to [batch, tokens, hidden].</summary>
    public override Tensor forward(Tensor input)
    {
        ArgumentNullException.ThrowIfNull(input);
        using var scope = NewDisposeScope();
        var ids = input.reshape(-1);
        var states = Weight.index_select(0, ids);
        states = Adapter?.Apply(this, ids, states) ?? states;
        return states.view(input.size(0), input.size(1), _weight.size(1)).MoveToOuterDisposeScope();
    }
}
