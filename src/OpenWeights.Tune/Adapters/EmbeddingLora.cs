using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>
/// A low-rank update of a token embedding: s (B A)ᵀ, of which only the rows of the given tokens are computed. With a magnitude per dimension, the columns of
/// W + s (B A)ᵀ scaled to it (DoRA).
/// </summary>
internal sealed class EmbeddingLora : AdapterPart, IEmbeddingAdapter
{
    // Rows of the vocabulary whose norms are computed at once.
    private const long PartRows = 1 << 13;

    private readonly Scalar _scale;

    internal EmbeddingLora(string module, TokenEmbedding target, Parameter a, Parameter b, double scale, Parameter? magnitude = null)
        : base(module)
    {
        Target = target;
        A = a;
        B = b;
        Magnitude = magnitude;
        Scale = scale;
        _scale = scale;
    }

    /// <summary>The embedding.</summary>
    public TokenEmbedding Target { get; }

    /// <summary>Matrix A, [rank, vocabulary].</summary>
    public Parameter A { get; }

    /// <summary>Matrix B, [hidden, rank].</summary>
    public Parameter B { get; }

    /// <summary>DoRA magnitude of each dimension, [hidden]; null for plain LoRA.</summary>
    public Parameter? Magnitude { get; }

    /// <summary>Scaling factor s.</summary>
    public double Scale { get; }

    /// <inheritdoc/>
    public override IEnumerable<(string Name, Parameter Parameter)> Parameters =>
        [($"{Module}.lora_embedding_A", A), ($"{Module}.lora_embedding_B", B), .. Magnitude is null ? Array.Empty<(string, Parameter)>() : [($"{Module}.lora_magnitude_vector", Magnitude)]];

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
        ArgumentNullException.ThrowIfNull(layer);
        ArgumentNullException.ThrowIfNull(output);
        using var scope = NewDisposeScope();
        var update = nn.functional.linear(A.t().index_select(0, ids), B).mul(_scale);
        if (Magnitude is not null)
        {
            return Magnitude.div(Norms(layer.Weight)).mul(output.Plus(update)).to(output.dtype).MoveToOuterDisposeScope();
        }

        return output.Plus(update).to(output.dtype).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public override Tensor Merged(string tensor, Tensor weight)
    {
        ArgumentNullException.ThrowIfNull(weight);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var update = B.detach().mm(A.detach()).t().mul(_scale);
        var merged = weight.Plus(update.to(weight.device));
        return (Magnitude is null ? merged : merged.mul(Magnitude.detach().to(weight.device).div(merged.norm(0)))).MoveToOuterDisposeScope();
    }

    // Norms of the columns of W + s (B A)ᵀ over the vocabulary, [hidden], a constant in backward; a part of the vocabulary at a time.
    private Tensor Norms(Tensor weight)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var squares = zeros([weight.size(1)], A.dtype, weight.device);
        for (long first = 0; first < weight.size(0); first += PartRows)
        {
            using var inner = NewDisposeScope();
            var count = Math.Min(PartRows, weight.size(0) - first);
            var rows = weight.narrow(0, first, count).Widened().add(A.narrow(1, first, count).t().mm(B.t()), _scale);
            _ = squares.add_(rows.square().sum([0L]));
        }

        return squares.sqrt().MoveToOuterDisposeScope();
    }

    private protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            A.Dispose();
            B.Dispose();
            Magnitude?.Dispose();
            _scale.Dispose();
        }
    }
}
