using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Kinds;

/// <summary>Settings of a VeRA adapter, with PEFT's names.</summary>
[AdapterType("vera", OwnBiases = "vera_only")]
internal sealed record VeraConfig : AdapterConfig
{
    /// <summary>r: rank of the shared projections.</summary>
    [Setting("Rank of the shared random projections.", Key = "r", Min = 1)]
    public int Rank { get; init; } = 256;

    /// <summary>projection_prng_key: seed of the shared projections.</summary>
    [Setting("Seed of the shared random projections.")]
    public int ProjectionPrngKey { get; init; }

    /// <summary>save_projection: whether the file has the projections.</summary>
    [Setting("Save the projections with the adapter; otherwise they are drawn again from projection_prng_key.")]
    public bool SaveProjection { get; init; } = true;

    /// <summary>vera_dropout: dropout probability on the adapter's input while training.</summary>
    [Setting("Dropout probability on the adapter's input while training.", Min = 0, Max = 0.999)]
    public double VeraDropout { get; init; }

    /// <summary>d_initial: start of the vector d.</summary>
    [Setting("Initial value of the vector d.")]
    public double DInitial { get; init; } = 0.1;

    /// <summary>init_weights: whether the update starts at zero.</summary>
    [Setting("Start with an update of zero; otherwise with a random one.")]
    public bool InitWeights { get; init; } = true;
}

/// <summary>VeRA (Kopiczko et al., 2024): W + diag(b) B diag(d) A with random A and B that all layers share, cut to each layer's size.</summary>
internal sealed class VeraKind : ModuleKind<VeraConfig>
{
    private const string A = "base_model.vera_A";
    private const string B = "base_model.vera_B";

    internal override string PeftType => "VERA";

    private protected override string TensorPrefix => "vera_lambda_";

    private protected override IReadOnlyCollection<string> Lacks => ["exclude_modules"];

    private protected override IEnumerable<AdapterPart> Parts(VeraConfig config, ModuleSite site)
    {
        var (layer, (outputs, inputs), rank) = ((LinearLayer)site.Target, site.Largest, (long)config.Rank);
        var a = site.Tensors.Shared(A, config.SaveProjection, config.SaveProjection, Projections(config, inputs, outputs, first: true), rank, inputs);
        var b = site.Tensors.Shared(B, config.SaveProjection, config.SaveProjection, Projections(config, inputs, outputs, first: false), outputs, rank);
        yield return new VeraPart(
            site, config.VeraDropout, (a, b), site.Trained("vera_lambda_b", config.InitWeights ? Fills.Zeros : Fills.Ones, layer.OutFeatures),
            site.Trained("vera_lambda_d", config.InitWeights ? Fills.Constant(config.DInitial) : Fills.Normal(1), rank));
    }

    private protected override bool IsIdle(VeraConfig config, StoredModule stored) =>
        stored.IsZero("vera_lambda_b") || stored.IsZero("vera_lambda_d");

    // Both come from one generator: uniform within sqrt(6 / columns), A before B.
    private static Fill Projections(VeraConfig config, long inputs, long outputs, bool first) => (_, _) =>
    {
        using var random = new Generator((ulong)config.ProjectionPrngKey);
        var a = Fills.Uniform(Math.Sqrt(6.0 / inputs))([config.Rank, inputs], random);
        return first ? a : Fills.Uniform(Math.Sqrt(6.0 / config.Rank))([outputs, config.Rank], random);
    };
}

/// <summary>The vectors b and d of one layer.</summary>
internal sealed class VeraPart(ModuleSite site, double dropout, (Tensor A, Tensor B) shared, Parameter b, Parameter d) : LinearPart(site, ("vera_lambda_b", b), ("vera_lambda_d", d))
{
    internal override long KeptPerToken => (2 * d.size(0)) + Target.OutFeatures + (dropout > 0 ? 2 * Target.InFeatures : 0);

    public override Tensor Apply(LinearLayer layer, Tensor input, Tensor output)
    {
        using var scope = NewDisposeScope();
        var states = input.Widened();
        states = IsTraining && dropout > 0 ? nn.functional.dropout(states, dropout, training: true) : states;
        var inner = nn.functional.linear(states, A).mul(d);
        return output.Plus(nn.functional.linear(inner, B).mul(b)).to(output.dtype).MoveToOuterDisposeScope();
    }

    private protected override Tensor MergedWeight(Tensor weight) => weight.Plus(B.mul(b.unsqueeze(1)).mm(A.mul(d.unsqueeze(1))));

    private Tensor A => shared.A.narrow(1, 0, Target.InFeatures).to(d.device);

    private Tensor B => shared.B.narrow(0, 0, Target.OutFeatures).to(d.device);
}
