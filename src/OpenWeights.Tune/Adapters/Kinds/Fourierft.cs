using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Layers;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Kinds;

/// <summary>Settings of a FourierFT adapter, with PEFT's names.</summary>
[AdapterType("fourierft", OwnBiases = "fourier_only")]
internal sealed record FourierftConfig : AdapterConfig
{
    /// <summary>n_frequency: number of trained frequencies of a layer.</summary>
    [Setting("Number of trained frequencies of a layer.", Min = 1)]
    public int NFrequency { get; init; } = 1000;

    /// <summary>n_frequency_pattern: numbers of individual modules, by name or pattern.</summary>
    [Setting("Numbers of frequencies of individual modules, by name or pattern; they override n_frequency.")]
    public IReadOnlyDictionary<string, int> NFrequencyPattern { get; init; } = new Dictionary<string, int>();

    /// <summary>scaling: factor of the update.</summary>
    [Setting("Factor of the update.")]
    public double Scaling { get; init; } = 150;

    /// <summary>random_loc_seed: seed of the choice of frequencies.</summary>
    [Setting("Seed of the choice of frequencies, which the file does not have.")]
    public int RandomLocSeed { get; init; } = 777;

    /// <summary>init_weights: whether the update starts at zero.</summary>
    [Setting("Start with an update of zero; otherwise with a random one, as is usual.")]
    public bool InitWeights { get; init; }

    internal override IEnumerable<(string Setting, IEnumerable<string> Keys)> Patterns => [("n_frequency_pattern", NFrequencyPattern.Keys)];
}

/// <summary>FourierFT (Gao et al., 2024): the update is the real part of the inverse Fourier transform of a few trained coefficients.</summary>
internal sealed class FourierftKind : ModuleKind<FourierftConfig>
{
    internal override string PeftType => "FOURIERFT";

    private protected override string TensorPrefix => "fourierft_spectrum";

    private protected override IEnumerable<AdapterPart> Parts(FourierftConfig config, ModuleSite site)
    {
        var (layer, count) = ((LinearLayer)site.Target, (long)ByModule(config.NFrequencyPattern, site.Module, config.NFrequency));
        yield return new FourierftPart(
            site, config.Scaling, site.Trained("fourierft_spectrum", config.InitWeights ? Fills.Zeros : Fills.Normal(1), count),
            site.Tensors.Make(site.Module, () => Sparse.Drawn(config.RandomLocSeed, layer.OutFeatures, layer.InFeatures, count)));
    }

    private protected override (string Setting, string Message)? Problem(FourierftConfig config, string name, nn.Module module)
    {
        var layer = (LinearLayer)module;
        return ByModule(config.NFrequencyPattern, name, config.NFrequency) > layer.InFeatures * layer.OutFeatures
            ? ("n_frequency", $"{name} has only {layer.InFeatures * layer.OutFeatures} entries; lower it, or set the module's own in n_frequency_pattern.")
            : null;
    }

    private protected override bool IsIdle(FourierftConfig config, StoredModule stored) => config.Scaling == 0 || stored.IsZero("fourierft_spectrum");
}

/// <summary>The coefficients of one layer.</summary>
/// <param name="site">The layer.</param>
/// <param name="scaling">Factor of the update.</param>
/// <param name="spectrum">The coefficients, [frequencies].</param>
/// <param name="places">Their places in the transform, row by row; null without values.</param>
internal sealed class FourierftPart(ModuleSite site, double scaling, Parameter spectrum, Tensor? places) : DeltaPart(site, ("fourierft_spectrum", spectrum))
{
    private readonly Scalar _scaling = scaling;

    private protected override Tensor Delta(IReadOnlyList<Tensor> own, Func<Tensor> weight) =>
        fft.ifft2(Sparse.Dense(own[0], places!, Target.OutFeatures, Target.InFeatures)).view_as_real().select(-1, 0).mul(_scaling);

    private protected override void Dispose(bool disposing)
    {
        base.Dispose(disposing);
        places?.Dispose();
        _scaling.Dispose();
    }
}
