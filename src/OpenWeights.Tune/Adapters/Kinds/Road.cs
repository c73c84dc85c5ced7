using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Kinds;

/// <summary>Settings of a RoAd adapter, with PEFT's names.</summary>
[AdapterType("road")]
internal sealed record RoadConfig : AdapterConfig
{
    /// <summary>variant: how many angles and scales there are.</summary>
    [Setting("Angles and scales: road_1 has one of each for two outputs, road_2 one for each output, road_4 two.", OneOf = ["road_1", "road_2", "road_4"])]
    public string Variant { get; init; } = "road_1";

    /// <summary>group_size: outputs of which the first half is paired with the second.</summary>
    [Setting("Outputs are paired within groups of this even size, which divides the layer's outputs.", Min = 2)]
    public int GroupSize { get; init; } = 64;

    /// <summary>init_weights: whether the rotation starts at none.</summary>
    [Setting("Start with no rotation; otherwise with a random one.")]
    public bool InitWeights { get; init; } = true;
}

/// <summary>RoAd (Liao and Monz, 2024): pairs of outputs are rotated and scaled.</summary>
internal sealed class RoadKind : ModuleKind<RoadConfig>
{
    internal override string PeftType => "ROAD";

    private protected override string TensorPrefix => "road_";

    private protected override IReadOnlyCollection<string> Lacks => ["exclude_modules", "layers_to_transform", "layers_pattern"];

    private protected override IEnumerable<AdapterPart> Parts(RoadConfig config, ModuleSite site)
    {
        var outputs = ((LinearLayer)site.Target).OutFeatures;
        var size = config.Variant == "road_1" ? outputs / 2 : config.Variant == "road_2" ? outputs : 2 * outputs;
        yield return new RoadPart(
            site, config, site.Trained("road_theta", config.InitWeights ? Fills.Zeros : Fills.Normal(0.5), size),
            site.Trained("road_alpha", config.InitWeights ? Fills.Ones : Fills.AroundOne(0.5), size));
    }

    private protected override (string Setting, string Message)? Problem(RoadConfig config, string name, nn.Module module) =>
        config.GroupSize % 2 != 0 || ((LinearLayer)module).OutFeatures % config.GroupSize != 0
            ? ("group_size", $"{config.GroupSize} must be even and divide the {((LinearLayer)module).OutFeatures} outputs of {name}; take an even divisor.")
            : null;

    private protected override bool IsIdle(RoadConfig config, StoredModule stored) => stored.IsZero("road_theta") && stored.IsOne("road_alpha");
}

/// <summary>The angles and scales of one layer's outputs.</summary>
internal sealed class RoadPart(ModuleSite site, RoadConfig config, Parameter theta, Parameter alpha) : LinearPart(site, ("road_theta", theta), ("road_alpha", alpha))
{
    public override IEnumerable<string> ChangedTensors => Target.Bias is null ? base.ChangedTensors : [$"{Module}.weight", $"{Module}.bias"];

    internal override long KeptPerToken => 2 * Target.OutFeatures;

    public override Tensor Apply(LinearLayer layer, Tensor input, Tensor output)
    {
        using var scope = NewDisposeScope();
        return Turn(output.Widened().reshape(-1, Target.OutFeatures)).view(output.shape).to(output.dtype).MoveToOuterDisposeScope();
    }

    private protected override Tensor MergedWeight(Tensor weight) => Turn(weight.t()).t();

    private protected override Tensor MergedBias(Tensor bias) => Turn(bias.unsqueeze(0)).view(-1);

    // With x and its pair y (of the group's other half): first x - second y in the first half, first x + second y in the second.
    private Tensor Turn(Tensor outputs)
    {
        var (first, second) = Factors();
        var halves = outputs.reshape(outputs.size(0), -1, 2, config.GroupSize / 2);
        var paired = stack([halves.select(2, 1).neg(), halves.select(2, 0)], 2).reshape(outputs.shape);
        return outputs.mul(first).Plus(paired.mul(second));
    }

    private (Tensor First, Tensor Second) Factors()
    {
        switch (config.Variant)
        {
            case "road_1":
                var (angles, scales) = (Both(theta), Both(alpha));
                return (scales.mul(angles.cos()), scales.mul(angles.sin()));
            case "road_2":
                return (alpha.mul(theta.cos()), alpha.mul(theta.sin()));
            default:
                return (Part(alpha, 0).mul(Part(theta, 0).cos()), Part(alpha, 1).mul(Part(theta, 1).sin()));
        }
    }

    // The same values for both halves of a group.
    private Tensor Both(Tensor values) => values.view(-1, config.GroupSize / 2).repeat_interleave(2, dim: 0).flatten();

    private Tensor Part(Tensor values, long index) => values.view(-1, 2, config.GroupSize).select(1, index).flatten();
}
