using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Layers;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Kinds;

/// <summary>Settings of a LoHa adapter, with PEFT's names.</summary>
[AdapterType("loha")]
internal sealed record LohaConfig : AdapterConfig
{
    /// <summary>r: rank of each of the two products.</summary>
    [Setting("Rank of each of the two products; the update has up to its square.", Key = "r", Min = 1)]
    public int Rank { get; init; } = 8;

    /// <summary>alpha: the update is scaled by alpha / r.</summary>
    [Setting("Alpha; the update is scaled by alpha / r.", Min = 0)]
    public double Alpha { get; init; } = 8;

    /// <summary>rank_dropout: probability that a row of the update is left out while training.</summary>
    [Setting("Probability that a row of the update is left out while training.", Min = 0, Max = 0.999)]
    public double RankDropout { get; init; }

    /// <summary>module_dropout: probability that the update of a module is left out while training.</summary>
    [Setting("Probability that the update of a module is left out in a training pass.", Min = 0, Max = 0.999)]
    public double ModuleDropout { get; init; }

    /// <summary>init_weights: whether the update starts at zero.</summary>
    [Setting("Start with an update of zero; otherwise with a random one.")]
    public bool InitWeights { get; init; } = true;

    /// <summary>rank_pattern: ranks of individual modules, by name or pattern.</summary>
    [Setting("Ranks of individual modules, by name or pattern; they override r.")]
    public IReadOnlyDictionary<string, int> RankPattern { get; init; } = new Dictionary<string, int>();

    /// <summary>alpha_pattern: alphas of individual modules, by name or pattern.</summary>
    [Setting("Alphas of individual modules, by name or pattern; they override alpha.")]
    public IReadOnlyDictionary<string, double> AlphaPattern { get; init; } = new Dictionary<string, double>();

    internal override IEnumerable<(string Setting, IEnumerable<string> Keys)> Patterns => [("rank_pattern", RankPattern.Keys), ("alpha_pattern", AlphaPattern.Keys)];
}

/// <summary>LoHa (FedPara; Nam et al., 2022): W + s (w1_a w1_b) ⊙ (w2_a w2_b), s = alpha / r.</summary>
internal sealed class LohaKind : ModuleKind<LohaConfig>
{
    internal override string PeftType => "LOHA";

    private protected override string TensorPrefix => "hada_";

    // It concerns convolutions alone.
    private protected override IReadOnlyCollection<string> Harmless => ["use_effective_conv2d"];

    private protected override IEnumerable<AdapterPart> Parts(LohaConfig config, ModuleSite site)
    {
        var (layer, rank) = ((LinearLayer)site.Target, (long)ByModule(config.RankPattern, site.Module, config.Rank));
        Parameter A(string name) => site.Trained(name, Fills.Kaiming, layer.OutFeatures, rank);
        Parameter B(string name, Fill fill) => site.Trained(name, fill, rank, layer.InFeatures);
        yield return new LohaPart(
            site, config, ByModule(config.AlphaPattern, site.Module, config.Alpha) / rank,
            A("hada_w1_a"), B("hada_w1_b", Fills.Kaiming), A("hada_w2_a"), B("hada_w2_b", config.InitWeights ? Fills.Zeros : Fills.Kaiming));
    }

    private protected override bool IsIdle(LohaConfig config, StoredModule stored) =>
        stored.Names.Any(stored.IsZero) || ByModule(config.AlphaPattern, stored.Name, config.Alpha) == 0;
}

/// <summary>The update of one layer.</summary>
internal sealed class LohaPart(ModuleSite site, LohaConfig config, double scale, Parameter w1a, Parameter w1b, Parameter w2a, Parameter w2b)
    : DeltaPart(site, ("hada_w1_a", w1a), ("hada_w1_b", w1b), ("hada_w2_a", w2a), ("hada_w2_b", w2b))
{
    private readonly Scalar _scale = scale;

    private protected override Tensor Delta(IReadOnlyList<Tensor> own, Func<Tensor> weight) => own[0].mm(own[1]).mul(own[2].mm(own[3])).mul(_scale);

    private protected override bool IsSkipped() => IsTraining && DropoutRules.Skips(config.ModuleDropout);

    private protected override Tensor Rows(Tensor update) => IsTraining && config.RankDropout > 0 ? update.mul(DropoutRules.Rows(Target.OutFeatures, config.RankDropout, update.device, rescale: true)) : update;

    private protected override void Dispose(bool disposing)
    {
        base.Dispose(disposing);
        _scale.Dispose();
    }
}
