using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Kinds;

/// <summary>Settings of an IA3 adapter, with PEFT's names.</summary>
[AdapterType("ia3")]
internal sealed record Ia3Config : AdapterConfig
{
    /// <summary>feedforward_modules: target modules whose input is scaled rather than their output.</summary>
    [Setting("Target modules whose input is scaled instead of their output: names, or a regular expression; by default the last layer of the feed-forward (down_proj and the like).")]
    public TextOrList? FeedforwardModules { get; init; }

    /// <summary>init_ia3_weights: whether the factors start at one.</summary>
    [Setting("Start with factors of one, which change nothing; otherwise with random ones.")]
    public bool InitIa3Weights { get; init; } = true;
}

/// <summary>
/// IA3 (Liu et al., 2022): a learned factor for each output of a layer, y = l (W x + b), or for each input of a feed-forward layer,
/// y = W (l x) + b.
/// </summary>
internal sealed class Ia3Kind : ModuleKind<Ia3Config>
{
    // The last layer of a feed-forward block in the families that there are.
    private static readonly string[] s_feedForward = ["down_proj", "w2", "fc2", "c_proj", "dense_4h_to_h", "output_linear", "wo"];

    internal override string PeftType => "IA3";

    private protected override string TensorPrefix => "ia3_l";

    private protected override IReadOnlyCollection<string> Lacks => ["layers_to_transform", "layers_pattern"];

    private protected override IEnumerable<AdapterPart> Parts(Ia3Config config, ModuleSite site)
    {
        var (layer, isFeedForward) = ((LinearLayer)site.Target, IsFeedForward(config, site.Module));
        var factors = site.Trained("ia3_l", config.InitIa3Weights ? Fills.Ones : Fills.Normal(1), isFeedForward ? [1, layer.InFeatures] : [layer.OutFeatures, 1]);
        yield return new Ia3Part(site, factors, isFeedForward);
    }

    private protected override Ia3Config Saved(Ia3Config config, PeftAdapter adapter) => config.FeedforwardModules is not null ? config
        : config with { FeedforwardModules = new TextOrList([.. adapter.Parts.OfType<Ia3Part>().Where(static p => p.IsFeedForward).Select(static p => p.Module[(p.Module.LastIndexOf('.') + 1)..]).Distinct()], IsList: true) };

    private protected override bool IsIdle(Ia3Config config, StoredModule stored) => stored.IsOne("ia3_l");

    private static bool IsFeedForward(Ia3Config config, string module) => config.FeedforwardModules is { } given
        ? (given.IsNames ? TargetModules.Of(given.Values) : TargetModules.Of(given.Values[0])).Matches(module)
        : module.Contains("mlp", StringComparison.Ordinal) && TargetModules.Of(s_feedForward).Matches(module);
}

/// <summary>The factors of one layer.</summary>
/// <param name="site">The layer.</param>
/// <param name="factors">Factors of the outputs, [out, 1], or of the inputs, [1, in].</param>
/// <param name="isFeedForward">Whether the inputs are scaled.</param>
internal sealed class Ia3Part(ModuleSite site, Parameter factors, bool isFeedForward) : LinearPart(site, ("ia3_l", factors))
{
    /// <summary>Whether the inputs are scaled.</summary>
    internal bool IsFeedForward => isFeedForward;

    public override IEnumerable<string> ChangedTensors => isFeedForward || Target.Bias is null ? base.ChangedTensors : [$"{Module}.weight", $"{Module}.bias"];

    internal override long KeptPerToken => isFeedForward ? Target.InFeatures : Target.OutFeatures;

    public override Tensor Apply(LinearLayer layer, Tensor input, Tensor output) => Replace(layer, input) ?? output.Widened().mul(factors.view(-1)).to(output.dtype);

    public override Tensor? Replace(LinearLayer layer, Tensor input) => isFeedForward ? layer.Plain(input.Widened().mul(factors.view(-1)).to(input.dtype), layer.Bias) : null;

    private protected override Tensor MergedWeight(Tensor weight) => weight.mul(factors);

    private protected override Tensor MergedBias(Tensor bias) => bias.mul(factors.view(-1));
}
