using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Adapters;

/// <summary>PEFT's ensure_weight_tying for a base model with tied embedding and output head: a setting for one applies to both.</summary>
internal sealed class WeightTie
{
    private WeightTie(LoraConfig config, bool keeps) => (Config, Keeps) = (config, keeps);

    /// <summary>The settings, with the head replaced by the embedding.</summary>
    internal LoraConfig Config { get; }

    /// <summary>Whether the head follows the embedding.</summary>
    internal bool Keeps { get; }

    /// <summary>Resolves the settings for a model.</summary>
    internal static WeightTie Of(CausalLanguageModel model, LoraConfig config)
    {
        if (!config.EnsureWeightTying || !model.Config.TiedEmbeddings)
        {
            return new WeightTie(config, false);
        }

        var names = model.Config.Names;
        if (config.SavesWhole(names.EmbeddingModule) || config.SavesWhole(names.Head))
        {
            return new WeightTie(config with { ModulesToSave = [.. config.ModulesToSave.Where(m => !names.IsEmbeddingOrHead(m)), names.EmbeddingModule] }, true);
        }

        return model.AdaptableModules.Any(m => names.IsEmbeddingOrHead(m.Name) && AdapterTargets.IsAdapted(model, m, config))
            ? new WeightTie(config with { Targets = WithEmbedding(config.Targets, names) }, true)
            : new WeightTie(config, false);
    }

    /// <summary>The head's parts, which share those of the embedding.</summary>
    internal static IEnumerable<AdapterPart> HeadParts(DecoderNames names, LinearLayer head, IReadOnlyList<AdapterPart> parts)
    {
        foreach (var part in parts.Where(p => p.Module == names.EmbeddingModule).ToList())
        {
            yield return part switch
            {
                EmbeddingLora { Magnitude: not null } => throw new InvalidDataException($"{names.EmbeddingModule}: use_dora cannot be combined with ensure_weight_tying on an embedding; set one of them to false."),
                EmbeddingLora embedding => new TiedHeadLora(names.Head, head, embedding),
                _ => new ReplacedWeight(names.Head, head.Slots[0], (ReplacedWeight)part),
            };
        }
    }

    private static TargetModules WithEmbedding(TargetModules targets, DecoderNames names) => targets.Names is { } named
        ? TargetModules.Of([.. named.Where(n => !names.IsEmbeddingOrHead(n)), names.EmbeddingModule])
        : TargetModules.Of($"(?:{targets.Pattern})|{names.EmbeddingModule.Replace(".", "\\.", StringComparison.Ordinal)}");
}
