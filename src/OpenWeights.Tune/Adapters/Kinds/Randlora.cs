using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Kinds;

/// <summary>Settings of a RandLoRA adapter, with PEFT's names.</summary>
[AdapterType("randlora", OwnBiases = "randlora_only")]
internal sealed record RandloraConfig : AdapterConfig
{
    /// <summary>r: rank of each of the random bases.</summary>
    [Setting("Rank of each random base; the lower, the more bases and trained parameters.", Key = "r", Min = 1)]
    public int Rank { get; init; } = 32;

    /// <summary>projection_prng_key: seed of the shared bases.</summary>
    [Setting("Seed of the shared random bases.")]
    public int ProjectionPrngKey { get; init; }

    /// <summary>save_projection: whether the file has the bases.</summary>
    [Setting("Save the bases with the adapter. Only true is possible here: PEFT's draws of them are not reproduced.")]
    public bool SaveProjection { get; init; } = true;

    /// <summary>sparse: whether the bases are of -1, 0 and 1 alone.</summary>
    [Setting("Bases of -1, 0 and 1 alone, in shares of 1/6, 2/3 and 1/6.")]
    public bool Sparse { get; init; }

    /// <summary>very_sparse: as sparse, with more zeros the larger the layers.</summary>
    [Setting("As sparse, with more zeros the larger the layers.")]
    public bool VerySparse { get; init; }

    /// <summary>randlora_dropout: dropout probability on the adapter's input while training.</summary>
    [Setting("Dropout probability on the adapter's input while training.", Min = 0, Max = 0.999)]
    public double RandloraDropout { get; init; }

    /// <summary>randlora_alpha: the update is scaled by randlora_alpha / r.</summary>
    [Setting("Alpha; the update is scaled by randlora_alpha / r.", Min = 0)]
    public double RandloraAlpha { get; init; } = 640;

    /// <summary>init_weights: whether the update starts at zero.</summary>
    [Setting("Start with an update of zero; otherwise with a random one.")]
    public bool InitWeights { get; init; } = true;
}

/// <summary>
/// RandLoRA (Albert et al., 2025): a sum of products of random bases that all layers share, cut to each layer's size, with trained diagonal
/// factors between and after them; in PEFT's order of bases and ranks.
/// </summary>
internal sealed class RandloraKind : ModuleKind<RandloraConfig>
{
    private const string A = "randlora_A";
    private const string B = "randlora_B";

    internal override string PeftType => "RANDLORA";

    private protected override string TensorPrefix => "randlora_";

    private protected override IReadOnlyCollection<string> Lacks => ["exclude_modules"];

    private protected override IEnumerable<AdapterPart> Parts(RandloraConfig config, ModuleSite site)
    {
        if (!config.SaveProjection)
        {
            throw new InvalidDataException("save_projection: false leaves the random bases out of the file, and PEFT's draws of them are not reproduced here; set it to true, or in PEFT save the adapter with save_projection=True.");
        }

        var (layer, (outputs, inputs), rank) = ((LinearLayer)site.Target, site.Largest, (long)config.Rank);
        var (most, least, own) = (Math.Max(outputs, inputs), Math.Min(outputs, inputs), Math.Min(layer.OutFeatures, layer.InFeatures));
        var a = site.Tensors.Shared($"base_model.{A}", config.SaveProjection, config.SaveProjection, Bases(config, most, least, first: true), rank, 1, least);
        var b = site.Tensors.Shared($"base_model.{B}", config.SaveProjection, config.SaveProjection, Bases(config, most, least, first: false), most, Count(least, rank), rank);

        // PEFT 0.21 repeats the shared bases for every layer.
        var repeats = site.Stored(A) is not null;
        if (repeats)
        {
            site.Tensors.Expect($"{site.Module}.{A}", a.shape);
            site.Tensors.Expect($"{site.Module}.{B}", b.shape);
        }

        var bases = Count(own, rank);
        yield return new RandloraPart(
            site, config, (a, b), repeats, site.Trained("randlora_lambda", config.InitWeights ? Fills.Zeros : Fills.Normal(1), rank, bases),
            site.Trained("randlora_gamma", Fills.Constant(1.0 / (config.InitWeights ? Math.Max(bases, own) : Math.Max(layer.OutFeatures, layer.InFeatures))), bases, own));
    }

    private protected override bool IsIdle(RandloraConfig config, StoredModule stored) =>
        stored.IsZero("randlora_lambda") || stored.IsZero("randlora_gamma") || config.RandloraAlpha == 0;

    private static long Count(long width, long rank) => (width + rank - 1) / rank;

    private static Fill Bases(RandloraConfig config, long most, long least, bool first) => (_, _) =>
    {
        using var random = new Generator((ulong)config.ProjectionPrngKey);
        var (rank, count) = ((long)config.Rank, Count(least, config.Rank));
        if (config.Sparse || config.VerySparse)
        {
            var sparsity = config.VerySparse ? Math.Sqrt(least) : 3;
            var a = rand([rank, 1, least], float32, generator: random);
            return Normed(Signs(first ? a : rand([most, count, rank], float32, generator: random), sparsity));
        }

        // PEFT normalises them in bfloat16: kaiming_uniform_ with a = sqrt 5 of [.., 1, n] is uniform within 1 / sqrt n.
        var dense = Within([rank, 1, least], 1 / Math.Sqrt(least), random);
        return Normed(first ? dense : cat([.. Enumerable.Range(0, (int)count).Select(_ => Within([most, 1, rank], 1 / Math.Sqrt(rank), random))], 1)).to(float32);
    };

    private static Tensor Within(long[] shape, double bound, Generator random) => empty(shape, float32).uniform_(-bound, bound, random).to(bfloat16);

    private static Tensor Normed(Tensor bases) => bases.div(bases.std([0, 1, 2]));

    private static Tensor Signs(Tensor draws, double sparsity)
    {
        using Scalar low = 1 / (2 * sparsity);
        using Scalar high = 1 - (1 / (2 * sparsity));
        return draws.gt(high).to(float32).sub(draws.lt(low).to(float32));
    }
}

/// <summary>The factors of one layer.</summary>
/// <param name="site">The layer.</param>
/// <param name="config">The settings.</param>
/// <param name="shared">The bases: A, [r, 1, n], and B, [m, bases, r].</param>
/// <param name="repeats">Whether the file has the bases for this layer too.</param>
/// <param name="lambda">Factors between the bases, [r, bases].</param>
/// <param name="gamma">Factors of the smaller of inputs and outputs, [bases, n].</param>
internal sealed class RandloraPart(ModuleSite site, RandloraConfig config, (Tensor A, Tensor B) shared, bool repeats, Parameter lambda, Parameter gamma)
    : LinearPart(site, ("randlora_lambda", lambda), ("randlora_gamma", gamma))
{
    private readonly Scalar _scale = config.RandloraAlpha / config.Rank;

    internal override long KeptPerToken => (lambda.numel() * 2) + (config.RandloraDropout > 0 ? 2 * Target.InFeatures : 0);

    internal override long KeptOnce => 2 * lambda.numel() * Math.Min(Target.InFeatures, Target.OutFeatures);

    public override Tensor Apply(LinearLayer layer, Tensor input, Tensor output)
    {
        using var scope = NewDisposeScope();
        var states = input.Widened();
        states = IsTraining && config.RandloraDropout > 0 ? nn.functional.dropout(states, config.RandloraDropout, training: true) : states;
        var (first, second) = Bases();
        return output.Plus(nn.functional.linear(nn.functional.linear(states, first), second).mul(_scale)).to(output.dtype).MoveToOuterDisposeScope();
    }

    internal override IEnumerable<(string Name, Tensor Tensor)> FileTensors() =>
        repeats ? [.. base.FileTensors(), ($"{Module}.randlora_A", shared.A), ($"{Module}.randlora_B", shared.B)] : base.FileTensors();

    private protected override Tensor MergedWeight(Tensor weight)
    {
        var (first, second) = Bases();
        return weight.Plus(second.mm(first).mul(_scale));
    }

    private protected override void Dispose(bool disposing)
    {
        base.Dispose(disposing);
        _scale.Dispose();
    }

    // [bases r, in] and [out, bases r]: the trained factors are on the smaller side.
    private (Tensor First, Tensor Second) Bases()
    {
        var (bases, least, most) = (lambda.size(1), Math.Min(Target.InFeatures, Target.OutFeatures), Math.Max(Target.InFeatures, Target.OutFeatures));
        var b = shared.B.narrow(0, 0, most).narrow(1, 0, bases).reshape(most, -1).to(lambda.device);
        var a = lambda.unsqueeze(2).mul(shared.A.narrow(2, 0, least).to(lambda.device)).mul(gamma.unsqueeze(0)).reshape(-1, least);
        return least == Target.InFeatures ? (a, b) : (b.t(), a.t());
    }
}
