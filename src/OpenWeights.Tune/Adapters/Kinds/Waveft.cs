using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Layers;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Kinds;

/// <summary>Settings of a WaveFT adapter, with PEFT's names.</summary>
[AdapterType("waveft", OwnBiases = "waveft_only")]
internal sealed record WaveftConfig : AdapterConfig
{
    /// <summary>n_frequency: number of trained coefficients of a layer.</summary>
    [Setting("Number of trained coefficients of a layer.", Min = 1)]
    public int NFrequency { get; init; } = 2592;

    /// <summary>n_frequency_pattern: numbers of individual modules, by name or pattern.</summary>
    [Setting("Numbers of coefficients of individual modules, by name or pattern; they override n_frequency.")]
    public IReadOnlyDictionary<string, int> NFrequencyPattern { get; init; } = new Dictionary<string, int>();

    /// <summary>proportional_parameters: whether larger layers get more coefficients.</summary>
    [Setting("Distribute the coefficients over the layers in proportion to their sizes.")]
    public bool ProportionalParameters { get; init; }

    /// <summary>scaling: factor of the update.</summary>
    [Setting("Factor of the update.")]
    public double Scaling { get; init; } = 25;

    /// <summary>wavelet_family: the wavelet.</summary>
    [Setting(
        "Wavelet: haar, db1 to db10, sym2 to sym10, or coif1 to coif3.",
        OneOf = ["haar", "db1", "db2", "db3", "db4", "db5", "db6", "db7", "db8", "db9", "db10", "sym2", "sym3", "sym4", "sym5", "sym6", "sym7", "sym8", "sym9", "sym10", "coif1", "coif2", "coif3"])]
    public string WaveletFamily { get; init; } = "db1";

    /// <summary>use_idwt: whether the coefficients are transformed; otherwise they are entries of the update.</summary>
    [Setting("Transform the coefficients; otherwise they are entries of the update themselves.")]
    public bool UseIdwt { get; init; } = true;

    /// <summary>random_loc_seed: seed of the choice of coefficients.</summary>
    [Setting("Seed of the choice of coefficients, which the file does not have.")]
    public int RandomLocSeed { get; init; } = 777;

    /// <summary>init_weights: whether the update starts at zero.</summary>
    [Setting("Start with an update of zero; otherwise with a random one.")]
    public bool InitWeights { get; init; } = true;

    internal override IEnumerable<(string Setting, IEnumerable<string> Keys)> Patterns => [("n_frequency_pattern", NFrequencyPattern.Keys)];
}

/// <summary>WaveFT (Bilican et al., 2025): the update is the inverse wavelet transform of a few trained coefficients.</summary>
internal sealed class WaveftKind : ModuleKind<WaveftConfig>
{
    internal override string PeftType => "WAVEFT";

    private protected override string TensorPrefix => "waveft_spectrum";

    private protected override IEnumerable<AdapterPart> Parts(WaveftConfig config, ModuleSite site)
    {
        var layer = (LinearLayer)site.Target;
        long count = ByModule(config.NFrequencyPattern, site.Module, config.NFrequency);
        if (config.ProportionalParameters)
        {
            var all = site.Adapted.ToList();
            var share = (double)(layer.InFeatures * layer.OutFeatures) / all.Sum(static l => l.InFeatures * l.OutFeatures);
            count = Math.Max(1, (long)Math.Round(share * config.NFrequency * all.Count, MidpointRounding.ToEven));
        }

        yield return new WaveftPart(
            site, config, site.Trained("waveft_spectrum", config.InitWeights ? Fills.Zeros : Fills.Normal(0.01), count),
            site.Tensors.Make(site.Module, () => Sparse.Drawn(config.RandomLocSeed, layer.OutFeatures, layer.InFeatures, count)));
    }

    private protected override (string Setting, string Message)? Problem(WaveftConfig config, string name, nn.Module module)
    {
        var layer = (LinearLayer)module;
        return !config.ProportionalParameters && ByModule(config.NFrequencyPattern, name, config.NFrequency) > layer.InFeatures * layer.OutFeatures
            ? ("n_frequency", $"{name} has only {layer.InFeatures * layer.OutFeatures} entries; lower it, or set the module's own in n_frequency_pattern.")
            : null;
    }

    private protected override bool IsIdle(WaveftConfig config, StoredModule stored) => config.Scaling == 0 || stored.IsZero("waveft_spectrum");
}

/// <summary>The coefficients of one layer.</summary>
/// <param name="site">The layer.</param>
/// <param name="config">The settings.</param>
/// <param name="spectrum">The coefficients, [coefficients].</param>
/// <param name="places">Their places, row by row; null without values.</param>
internal sealed class WaveftPart(ModuleSite site, WaveftConfig config, Parameter spectrum, Tensor? places) : DeltaPart(site, ("waveft_spectrum", spectrum))
{
    private readonly Scalar _scaling = config.Scaling;

    private protected override Tensor Delta(IReadOnlyList<Tensor> own, Func<Tensor> weight)
    {
        var (rows, columns) = (Target.OutFeatures, Target.InFeatures);
        if (!config.UseIdwt)
        {
            return Sparse.Dense(own[0], places!, rows, columns).mul(_scaling);
        }

        // The transform loses (length - 2) rows and columns; PEFT centres the coefficients in a larger even matrix, and cuts the result.
        var lost = Wavelets.LowPass(config.WaveletFamily).Length - 2;
        var (wideRows, wideColumns) = (Even(rows + lost), Even(columns + lost));
        using Scalar width = columns;
        using Scalar wide = wideColumns;
        using Scalar shift = ((wideRows - rows) / 2 * wideColumns) + ((wideColumns - columns) / 2);
        var moved = places!.div(width, RoundingMode.floor).mul(wide).add(places!.remainder(width)).add(shift);
        var made = Wavelets.Inverse(Sparse.Dense(own[0], moved, wideRows, wideColumns), config.WaveletFamily);
        return made.narrow(0, (made.size(0) - rows) / 2, rows).narrow(1, (made.size(1) - columns) / 2, columns).mul(_scaling);
    }

    private protected override void Dispose(bool disposing)
    {
        base.Dispose(disposing);
        places?.Dispose();
        _scaling.Dispose();
    }

    private static long Even(long size) => size + (size % 2);
}
