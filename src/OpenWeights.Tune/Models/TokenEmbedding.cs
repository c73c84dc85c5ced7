using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>Token ids to vectors. Its weight is one parameter, so a tied output head is the same tensor.</summary>
public sealed class TokenEmbedding : nn.Module<Tensor, Tensor>
{
    [ComponentName(Name = "weight")]
    private readonly Parameter _weight;

    /// <summary>An embedding around its weight.</summary>
    /// <param name="weight">[vocabulary, hidden].</param>
    public TokenEmbedding(Parameter weight)
        : base(nameof(TokenEmbedding))
    {
        _weight = weight;
        RegisterComponents();
    }

    /// <summary>The weight, [vocabulary, hidden].</summary>
    public Parameter Weight => _weight;

    /// <summary>[batch, tokens] int64 to [batch, tokens, hidden].</summary>
    public override Tensor forward(Tensor input)
    {
        ArgumentNullException.ThrowIfNull(input);
        using var scope = NewDisposeScope();
        return _weight.index_select(0, input.reshape(-1)).view(input.size(0), input.size(1), _weight.size(1)).MoveToOuterDisposeScope();
    }
}
