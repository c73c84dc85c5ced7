using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Layers;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Kinds;

/// <summary>Settings of LN tuning: none of its own.</summary>
[AdapterType("ln_tuning")]
internal sealed record LnTuningConfig : AdapterConfig
{
    internal override bool Takes(nn.Module module) => module is Norm;
}

/// <summary>LN tuning (Zhao et al., 2023): the norms are trained, and nothing else.</summary>
internal sealed class LnTuningKind : ModuleKind<LnTuningConfig>
{
    internal override string PeftType => "LN_TUNING";

    private protected override string TensorPrefix => "ln_tuning_layers.";

    private protected override IReadOnlyCollection<string> Lacks => ["layers_to_transform", "layers_pattern"];

    private protected override IEnumerable<AdapterPart> Parts(LnTuningConfig config, ModuleSite site)
    {
        foreach (var slot in ((IWeighted)site.Target).Slots)
        {
            var file = $"{site.Module}.ln_tuning_layers.{slot.Name}";
            yield return new ReplacedWeight(site.Module, slot, site.Tensors.Whole(file, site.Target, slot, required: true), file, inFile: true);
        }
    }
}
