using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Adapters;

/// <summary>PEFT's ensure_weight_tying over a base whose embedding and output head are one weight: what is said of either holds for both.</summary>
internal sealed class WeightTie
{
    internal const string Embedding = "model.embed_tokens";
    internal const string Head = "lm_head";

    private WeightTie(LoraConfig config, bool keeps) => (Config, Keeps) = (config, keeps);

    /// <summary>The settings, in which the embedding alone is named where either is.</summary>
    internal LoraConfig Config { get; }

    /// <summary>Whether the head follows the embedding.</summary>
    internal bool Keeps { get; }

    /// <summary>What the settings mean for a model.</summary>
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

    /// <summary>The head's parts, which are those of the embedding before it.</summary>
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
