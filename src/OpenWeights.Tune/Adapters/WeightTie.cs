using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Adapters;

/// <summary>PEFT's ensure_weight_tying for a base model with tied embedding and output head: a setting for one applies to both.</summary>
internal sealed class WeightTie
{
    internal const string Embedding = "model.embed_tokens";
    internal const string Head = "lm_head";

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

        if (config.SavesWhole(Embedding) || config.SavesWhole(Head))
        {
            return new WeightTie(config with { ModulesToSave = [.. config.ModulesToSave.Where(static m => m is not (Head or Embedding)), Embedding] }, true);
        }

        var named = model.AdaptableModules.Where(m => m.Name is Embedding or Head && AdapterTargets.IsAdapted(m, config)).ToList();
        return named.Count == 0 ? new WeightTie(config, false) : new WeightTie(config with { Targets = WithEmbedding(config.Targets) }, true);
    }

    /// <summary>The head's parts, which share those of the embedding.</summary>
    internal static IEnumerable<AdapterPart> HeadParts(LinearLayer head, IReadOnlyList<AdapterPart> parts)
    {
        foreach (var part in parts.Where(static p => p.Module == Embedding).ToList())
        {
            yield return part switch
            {
                EmbeddingLora embedding => new TiedHeadLora(Head, head, embedding),
                _ => new ReplacedWeight(Head, head.Slots[0], (ReplacedWeight)part),
            };
        }
    }

    private static TargetModules WithEmbedding(TargetModules targets) => targets.Names is { } names
        ? TargetModules.Of([.. names.Where(static n => n is not (Head or Embedding)), Embedding])
        : TargetModules.Of($"(?:{targets.Pattern})|{Embedding.Replace(".", "\\.", StringComparison.Ordinal)}");
}
