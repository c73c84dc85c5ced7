using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>The parts of a LoRA adapter on a model.</summary>
internal static class LoraParts
{
    /// <summary>The parts, in model order.</summary>
    /// <param name="model">The base model.</param>
    /// <param name="tie">The settings, and whether the head follows the embedding.</param>
    /// <param name="weights">Source of the weights.</param>
    /// <exception cref="InvalidDataException">The settings match no layer of the model, or cannot be combined.</exception>
    internal static IEnumerable<AdapterPart> Of(CausalLanguageModel model, WeightTie tie, IAdapterWeights weights)
    {
        var parts = new List<AdapterPart>();
        foreach (var (name, module) in AdapterTargets.Of(model, tie.Config))
        {
            foreach (var part in tie.Keeps && name == model.Config.Names.Head ? WeightTie.HeadParts(model.Config.Names, (LinearLayer)module, parts) : OfModule(model, name, module, tie.Config, weights))
            {
                parts.Add(part);
                yield return part;
            }
        }
    }

    // A module's replaced weights come before its update, which is added to them.
    private static IEnumerable<AdapterPart> OfModule(CausalLanguageModel model, string name, nn.Module module, LoraConfig config, IAdapterWeights weights)
    {
        foreach (var whole in WholeParts.Of(model, (name, module), config, weights))
        {
            yield return whole;
        }

        if (config.SavesWhole(name))
        {
            yield break;
        }

        if (AdapterTargets.IsAdapted(model, (name, module), config))
        {
            yield return Update(name, module, config, weights);
        }

        var experts = AdapterTargets.Experts((name, module), config).ToList();
        foreach (var matrix in experts)
        {
            var (parameter, isInner) = ($"{name}.{matrix.Name}", experts.Count == 2 && matrix == experts[0]);
            yield return new ExpertLora(name, matrix, weights.Experts(ExpertLora.FileName(name, isInner), matrix, config.RankOf(parameter)), config.ScaleOf(parameter), isInner);
        }
    }

    private static AdapterPart Update(string name, nn.Module module, LoraConfig config, IAdapterWeights weights)
    {
        var rank = config.RankOf(config.PatternName(name));
        if (module is LinearLayer linear)
        {
            return new LoraLayer(name, linear, weights.Linear(name, linear, rank), config.ScaleOf(config.PatternName(name)), config.AdaptsParameter($"{name}.weight") ? 0 : config.Dropout);
        }

        if (LoraTargets.Unfit(config, name) is { } unfit)
        {
            throw new InvalidDataException(unfit);
        }

        var embedding = (TokenEmbedding)module;
        var (a, b) = weights.Embedding(name, embedding, rank);
        return new EmbeddingLora(name, embedding, new Parameter(a), new Parameter(b), config.ScaleOf(name));
    }
}
