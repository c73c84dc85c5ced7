using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Kinds;

/// <summary>Settings of a LoKr adapter, with PEFT's names.</summary>
[AdapterType("lokr")]
internal sealed record LokrConfig : AdapterConfig
{
    /// <summary>r: rank of the factors that are products themselves.</summary>
    [Setting("Rank of the factors that are products themselves.", Key = "r", Min = 1)]
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

    /// <summary>rank_dropout_scale: whether the rows that are kept are enlarged.</summary>
    [Setting("With rank_dropout: enlarge the rows that are kept, so that their mean factor is 1.")]
    public bool RankDropoutScale { get; init; }

    /// <summary>decompose_both: whether the smaller factor is a product too.</summary>
    [Setting("Make the smaller factor of the Kronecker product a product of rank r too.")]
    public bool DecomposeBoth { get; init; }

    /// <summary>decompose_factor: size of the smaller factor; -1 for near the square root.</summary>
    [Setting("Size of the smaller factor; -1 for the divisor nearest to the square root.", Min = -1)]
    public int DecomposeFactor { get; init; } = -1;

    /// <summary>init_weights: how the factors start.</summary>
    [Setting("Start with an update of zero: true by the smaller factor, lycoris by the larger; false: with a random one.", OneOf = ["true", "false", "lycoris"])]
    public string InitWeights { get; init; } = "true";

    /// <summary>rank_pattern: ranks of individual modules, by name or pattern.</summary>
    [Setting("Ranks of individual modules, by name or pattern; they override r.")]
    public IReadOnlyDictionary<string, int> RankPattern { get; init; } = new Dictionary<string, int>();

    /// <summary>alpha_pattern: alphas of individual modules, by name or pattern.</summary>
    [Setting("Alphas of individual modules, by name or pattern; they override alpha.")]
    public IReadOnlyDictionary<string, double> AlphaPattern { get; init; } = new Dictionary<string, double>();

    internal override IEnumerable<(string Setting, IEnumerable<string> Keys)> Patterns => [("rank_pattern", RankPattern.Keys), ("alpha_pattern", AlphaPattern.Keys)];
}

/// <summary>
/// LoKr (Yeh et al., 2023): W + s w1 ⊗ w2, s = alpha / r. A factor is a product of rank r where that is smaller than the factor.
/// </summary>
internal sealed class LokrKind : ModuleKind<LokrConfig>
{
    internal override string PeftType => "LOKR";

    private protected override string TensorPrefix => "lokr_";

    // It concerns convolutions alone.
    private protected override IReadOnlyCollection<string> Harmless => ["use_effective_conv2d"];

    private protected override IEnumerable<AdapterPart> Parts(LokrConfig config, ModuleSite site)
    {
        var (layer, rank) = ((LinearLayer)site.Target, (long)ByModule(config.RankPattern, site.Module, config.Rank));
        var ((rows1, rows2), (columns1, columns2)) = (Factors(layer.OutFeatures, config.DecomposeFactor), Factors(layer.InFeatures, config.DecomposeFactor));
        var (first, second) = config.InitWeights switch
        {
            "true" => (Fills.Zeros, Fills.Kaiming),
            "lycoris" => (Fills.Kaiming, Fills.Zeros),
            _ => (Fills.Kaiming, Fills.Kaiming),
        };

        // PEFT sets A of the smaller factor to zero, and B of the larger.
        var own = config.DecomposeBoth && rank < Math.Max(rows1, columns1) / 2.0
            ? new[] { ("lokr_w1_a", site.Trained("lokr_w1_a", first, rows1, rank)), ("lokr_w1_b", site.Trained("lokr_w1_b", Fills.Kaiming, rank, columns1)) }.ToList()
            : [("lokr_w1", site.Trained("lokr_w1", first, rows1, columns1))];
        if (rank < Math.Max(rows2, columns2) / 2.0)
        {
            own.Add(("lokr_w2_a", site.Trained("lokr_w2_a", Fills.Kaiming, rows2, rank)));
            own.Add(("lokr_w2_b", site.Trained("lokr_w2_b", second, rank, columns2)));
        }
        else
        {
            own.Add(("lokr_w2", site.Trained("lokr_w2", second, rows2, columns2)));
        }

        yield return new LokrPart(site, config, ByModule(config.AlphaPattern, site.Module, config.Alpha) / rank, [.. own]);
    }

    private protected override bool IsIdle(LokrConfig config, StoredModule stored) =>
        stored.Names.Any(stored.IsZero) || ByModule(config.AlphaPattern, stored.Name, config.Alpha) == 0;

    /// <summary>Two factors of a size, the smaller first: by the given one if it divides it, or those nearest to each other that are not above it.</summary>
    /// <param name="size">The size.</param>
    /// <param name="factor">The wanted factor; -1 for any.</param>
    internal static (long Small, long Large) Factors(long size, long factor)
    {
        if (factor > 0 && size % factor == 0)
        {
            return (factor, size / factor);
        }

        var most = factor == -1 ? size : factor;
        var (small, large) = (1L, size);
        while (small < large)
        {
            var next = small + 1;
            while (size % next != 0)
            {
                next++;
            }

            if (next + (size / next) > small + large || next > most)
            {
                break;
            }

            (small, large) = (next, size / next);
        }

        return (Math.Min(small, large), Math.Max(small, large));
    }
}

/// <summary>The update of one layer; (w1 ⊗ w2) x is computed as w1 X w2ᵀ, with x as a matrix X.</summary>
internal sealed class LokrPart(ModuleSite site, LokrConfig config, double scale, (string Name, Parameter Parameter)[] own) : LinearPart(site, own)
{
    private readonly Scalar _scale = scale;

    internal override long KeptPerToken => (2 * Target.InFeatures) + Target.OutFeatures;

    public override Tensor Apply(LinearLayer layer, Tensor input, Tensor output)
    {
        using var scope = NewDisposeScope();
        if (IsTraining && DropoutRules.Skips(config.ModuleDropout))
        {
            return output.alias().MoveToOuterDisposeScope();
        }

        var (first, second) = (First(), Second());
        var states = input.Widened().reshape(-1, first.size(1), second.size(1));
        var update = first.matmul(states.matmul(second.t())).reshape([.. input.shape[..^1], Target.OutFeatures]).mul(_scale);
        if (IsTraining && config.RankDropout > 0)
        {
            update = update.mul(DropoutRules.Rows(Target.OutFeatures, config.RankDropout, update.device, config.RankDropoutScale));
        }

        return output.Plus(update).to(output.dtype).MoveToOuterDisposeScope();
    }

    private protected override Tensor MergedWeight(Tensor weight)
    {
        var (first, second) = (First(), Second());
        var product = first.unsqueeze(1).unsqueeze(3).mul(second.unsqueeze(0).unsqueeze(2));
        return weight.Plus(product.reshape(Target.OutFeatures, Target.InFeatures).mul(_scale));
    }

    private protected override void Dispose(bool disposing)
    {
        base.Dispose(disposing);
        _scale.Dispose();
    }

    private Tensor First() => Own[0].Name == "lokr_w1" ? Own[0].Parameter : Own[0].Parameter.mm(Own[1].Parameter);

    private Tensor Second() => Own[^1].Name == "lokr_w2" ? Own[^1].Parameter : Own[^2].Parameter.mm(Own[^1].Parameter);
}
