using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Layers;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Kinds;

/// <summary>Settings of a SHiRA adapter, with PEFT's names.</summary>
[AdapterType("shira")]
internal sealed record ShiraConfig : AdapterConfig
{
    /// <summary>r: the adapter trains as many entries of a weight as a LoRA of this rank has parameters.</summary>
    [Setting("The adapter trains as many entries of a weight as a LoRA of this rank has parameters.", Key = "r", Min = 1)]
    public int Rank { get; init; } = 32;

    /// <summary>mask_type: how the entries are chosen.</summary>
    [Setting("How the entries are chosen.", OneOf = ["random"])]
    public string MaskType { get; init; } = "random";

    /// <summary>random_seed: seed of the choice; null for the run's.</summary>
    [Setting("Seed of the choice, the same for all layers; by default the run's own.")]
    public int? RandomSeed { get; init; }

    /// <summary>init_weights: whether the update starts at zero.</summary>
    [Setting("Start with an update of zero; otherwise with a random one.")]
    public bool InitWeights { get; init; } = true;
}

/// <summary>SHiRA (Bhardwaj et al., 2024): some entries of the weight are trained, the same number as in a LoRA.</summary>
internal sealed class ShiraKind : ModuleKind<ShiraConfig>
{
    internal override string PeftType => "SHIRA";

    private protected override string TensorPrefix => "shira_";

    private protected override IReadOnlyCollection<string> Lacks => ["exclude_modules", "layers_to_transform", "layers_pattern"];

    private protected override IEnumerable<AdapterPart> Parts(ShiraConfig config, ModuleSite site)
    {
        var layer = (LinearLayer)site.Target;
        var count = config.Rank * (layer.InFeatures + layer.OutFeatures);
        yield return new ShiraPart(
            site, site.Trained("shira_weight", config.InitWeights ? Fills.Zeros : Fills.Normal(1), count),
            site.Tensors.Take($"{site.Module}.shira_indices", (_, random) => Chosen(config, layer, count, random), int32, 2, count));
    }

    private protected override (string Setting, string Message)? Problem(ShiraConfig config, string name, nn.Module module)
    {
        var layer = (LinearLayer)module;
        return config.Rank * (layer.InFeatures + layer.OutFeatures) > layer.InFeatures * layer.OutFeatures
            ? ("r", $"a LoRA of rank {config.Rank} has more parameters than {name}, [{layer.OutFeatures}, {layer.InFeatures}]; lower r, or remove the module from target_modules.")
            : null;
    }

    private protected override bool IsIdle(ShiraConfig config, StoredModule stored) => stored.IsZero("shira_weight");

    // Rows and columns in the order of the weight's entries.
    private static Tensor Chosen(ShiraConfig config, LinearLayer layer, long count, Generator random)
    {
        using var seeded = config.RandomSeed is { } seed ? new Generator((ulong)seed) : null;
        var places = randperm(layer.InFeatures * layer.OutFeatures, generator: seeded ?? random).narrow(0, 0, count);
        var mask = zeros([layer.InFeatures * layer.OutFeatures], float32).scatter_(0, places, ones([count], float32));
        return mask.view(layer.OutFeatures, layer.InFeatures).nonzero().t().to(int32);
    }
}

/// <summary>The entries of one layer.</summary>
/// <param name="site">The layer.</param>
/// <param name="values">What is added to each entry, [entries].</param>
/// <param name="places">Rows and columns of the entries, [2, entries], int32.</param>
internal sealed class ShiraPart(ModuleSite site, Parameter values, Tensor places) : DeltaPart(site, ("shira_weight", values))
{
    internal override IEnumerable<(string Name, Tensor Tensor)> FileTensors() => [.. base.FileTensors(), ($"{Module}.shira_indices", places)];

    private protected override Tensor Delta(IReadOnlyList<Tensor> own, Func<Tensor> weight)
    {
        using Scalar width = Target.InFeatures;
        var (rows, columns) = (places.select(0, 0).to(int64), places.select(0, 1).to(int64));
        return Sparse.Dense(own[0], rows.mul(width).add(columns), Target.OutFeatures, Target.InFeatures);
    }

    private protected override void Dispose(bool disposing)
    {
        base.Dispose(disposing);
        places.Dispose();
    }
}
