using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>The part of an adapter that changes what a token embedding gives.</summary>
internal abstract class EmbeddingPart : AdapterPart, IEmbeddingAdapter
{
    private readonly (string Name, Parameter Parameter)[] _own;

    /// <summary>Creates the part.</summary>
    /// <param name="site">The embedding.</param>
    /// <param name="own">Its trained parameters by their name within the embedding; the part takes ownership.</param>
    private protected EmbeddingPart(ModuleSite site, params (string Name, Parameter Parameter)[] own)
        : base(site.Module)
    {
        Target = (TokenEmbedding)site.Target;
        _own = own;
    }

    /// <summary>The adapted embedding.</summary>
    internal TokenEmbedding Target { get; }

    /// <inheritdoc/>
    public override IEnumerable<(string Name, Parameter Parameter)> Parameters => _own.Select(p => ($"{Module}.{p.Name}", p.Parameter));

    /// <inheritdoc/>
    public override IEnumerable<string> ChangedTensors => [$"{Module}.weight"];

    /// <inheritdoc/>
    internal override bool Enabled
    {
        get => Target.Adapter == this;
        set => Target.Adapter = value ? this : null;
    }

    /// <inheritdoc/>
    internal override bool Training
    {
        set => IsTraining = value;
    }

    /// <summary>Whether dropout is on.</summary>
    private protected bool IsTraining { get; private set; }

    /// <inheritdoc/>
    public Tensor Apply(TokenEmbedding layer, Tensor ids, Tensor output)
    {
        using var scope = NewDisposeScope();
        return Changed(output.Widened(), ids).to(output.dtype).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public override Tensor Merged(string tensor, Tensor weight)
    {
        ArgumentNullException.ThrowIfNull(weight);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        return MergedWeight(weight.to(_own[0].Parameter.device)).to(weight.device).MoveToOuterDisposeScope();
    }

    /// <summary>Embeddings with this part, [tokens, hidden], in at least float32.</summary>
    /// <param name="states">Embeddings without it, [tokens, hidden].</param>
    /// <param name="ids">Their tokens, [tokens], int64.</param>
    private protected abstract Tensor Changed(Tensor states, Tensor ids);

    /// <summary>The weight with this part merged in, [vocabulary, hidden], float32.</summary>
    /// <param name="weight">The weight, on the part's device.</param>
    private protected abstract Tensor MergedWeight(Tensor weight);

    private protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            foreach (var (_, parameter) in _own)
            {
                parameter.Dispose();
            }
        }
    }
}
