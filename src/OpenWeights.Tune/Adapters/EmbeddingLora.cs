using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>A low-rank update of a token embedding: s (B A)ᵀ, of which only the rows of the given tokens are computed.</summary>
public sealed class EmbeddingLora : AdapterPart, IEmbeddingAdapter
{
    private readonly Scalar _scale;

    internal EmbeddingLora(string module, TokenEmbedding target, Parameter a, Parameter b, double scale)
        : base(module)
    {
        Target = target;
        A = a;
        B = b;
        Scale = scale;
        _scale = scale;
    }

    /// <summary>The embedding.</summary>
    public TokenEmbedding Target { get; }

    /// <summary>Matrix A, [rank, vocabulary].</summary>
    public Parameter A { get; }

    /// <summary>Matrix B, [hidden, rank].</summary>
    public Parameter B { get; }

    /// <summary>Scaling factor s.</summary>
    public double Scale { get; }

    /// <inheritdoc/>
    public override IEnumerable<(string Name, Parameter Parameter)> Parameters => [($"{Module}.lora_embedding_A", A), ($"{Module}.lora_embedding_B", B)];

    /// <inheritdoc/>
    public override IEnumerable<string> ChangedTensors => [$"{Module}.weight"];

    /// <inheritdoc/>
    internal override bool Enabled
    {
        get => Target.Adapter == this;
        set => Target.Adapter = value ? this : null;
    }

    /// <inheritdoc/>
    public Tensor Apply(TokenEmbedding layer, Tensor ids, Tensor output)
    {
        ArgumentNullException.ThrowIfNull(output);
        using var scope = NewDisposeScope();
        var update = nn.functional.linear(A.t().index_select(0, ids), B).mul(_scale);
        return output.Plus(update).to(output.dtype).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public override Tensor Merged(string tensor, Tensor weight)
    {
        ArgumentNullException.ThrowIfNull(weight);
        using var scope = NewDisposeScope();
        var update = B.detach().mm(A.detach()).t().mul(_scale);
        return weight.Plus(update.to(weight.device)).MoveToOuterDisposeScope();
    }

    private protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            A.Dispose();
            B.Dispose();
            _scale.Dispose();
        }
    }
}
