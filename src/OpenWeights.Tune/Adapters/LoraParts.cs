using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>The parts of a LoRA adapter.</summary>
internal static class LoraParts
{
    /// <summary>All parts, in the model's order. Those made before one failed are freed.</summary>
    /// <param name="model">The base model.</param>
    /// <param name="tie">The settings, with what becomes of a tied head.</param>
    /// <param name="weights">Source of the weights.</param>
    /// <exception cref="InvalidDataException">The settings match no layer of the model, or cannot be combined.</exception>
    internal static List<AdapterPart> Of(CausalLanguageModel model, WeightTie tie, IAdapterWeights weights)
    {
        var (parts, names, config) = (new List<AdapterPart>(), model.Config.Names, tie.Config);
        var tokens = TokenTargeting.Of(model, config);
        try
        {
            foreach (var (name, module) in AdapterTargets.Of(model, config))
            {
                model.Stack.LayerWeights?.Show(name);
                if (tie.Keeps && name == names.Head)
                {
                    parts.AddRange(WeightTie.HeadParts(names, (LinearLayer)module, parts));
                    continue;
                }

                var isTiedHead = model.Config.TiedEmbeddings && name == names.Head;
                var adapted = AdapterTargets.IsAdapted(model, (name, module), config);
                foreach (var part in WholeParts.Of(model, (name, module), config, weights, FrozenName(config, name, adapted, tokens.ContainsKey(name)), isTiedHead ? parts : null))
                {
                    parts.Add(part);

                    // What follows is made for the vocabulary that it brings.
                    if (part is ReplacedWeight { Grows: true })
                    {
                        part.Enabled = true;
                    }
                }

                if (config.SavesWhole(name))
                {
                    continue;
                }

                if (tokens.TryGetValue(name, out var own))
                {
                    parts.Add(Rows(name, module, own, config, weights, parts));
                }

                if (adapted)
                {
                    parts.AddRange(Update(name, module, config, weights));
                }

                parts.AddRange(Experts(name, module, config, weights));
            }

            return parts;
        }
        catch
        {
            foreach (var part in parts)
            {
                if (part.Enabled)
                {
                    part.Enabled = false;
                }

                part.Dispose();
            }

            throw;
        }
    }

    /// <summary>Whether embedding and head of a tied model are changed together: rows and a resized vocabulary that they share, and nothing of one alone.</summary>
    /// <param name="model">The base model.</param>
    /// <param name="parts">The parts.</param>
    internal static bool KeepTie(CausalLanguageModel model, IReadOnlyList<AdapterPart> parts)
    {
        var names = model.Config.Names;
        var head = parts.Where(p => p.Module == names.Head).ToList();
        var embedding = parts.Where(p => p.Module == names.EmbeddingModule).ToList();
        return model.Config.TiedEmbeddings && head.Count > 0 && head.Count == embedding.Count && head.TrueForAll(static p => p is TrainableTokens { IsShared: true } or ReplacedWeight { IsShared: true });
    }

    /// <summary>Name in PEFT's file of the complete weight of an embedding or head that is not trained.</summary>
    internal static string FrozenName(LoraConfig config, string name, bool adapted, bool hasRows) =>
        hasRows ? new TokenFileNames(config.TrainsTokensAlone).Base(name) : adapted ? $"{name}.base_layer.weight" : $"{name}.weight";

    private static TrainableTokens Rows(string name, nn.Module module, (IReadOnlyList<int> Tokens, bool Follows) own, LoraConfig config, IAdapterWeights weights, List<AdapterPart> before)
    {
        var names = new TokenFileNames(config.TrainsTokensAlone);
        return own.Follows
            ? new TrainableTokens(name, module, before.OfType<TrainableTokens>().First())
            : new TrainableTokens(name, module, own.Tokens, weights.Rows(names.Rows(name), module, own.Tokens), names);
    }

    private static IEnumerable<AdapterPart> Update(string name, nn.Module module, LoraConfig config, IAdapterWeights weights)
    {
        var rank = config.RankOf(config.PatternName(name));
        if (module is LinearLayer linear)
        {
            var update = weights.Linear(name, linear, rank);
            if (update.Base is { } changed)
            {
                yield return new ReplacedWeight(name, linear.Slots[0], new Parameter(changed, requires_grad: false), $"{name}.weight", inFile: false);
            }

            yield return new LoraLayer(name, linear, update, config.ScaleOf(config.PatternName(name)), config.AdaptsParameter($"{name}.weight") ? 0 : config.Dropout)
            {
                Invocation = config.InvocationTokens.Count == 0 ? null : new InvocationTokens(config.InvocationTokens),
            };
            yield break;
        }

        if (LoraTargets.Unfit(config, name) is { } unfit)
        {
            throw new InvalidDataException(unfit);
        }

        var embedding = (TokenEmbedding)module;
        var (a, b, magnitude) = weights.Embedding(name, embedding, rank);
        yield return new EmbeddingLora(name, embedding, new Parameter(a), new Parameter(b), config.ScaleOf(name), magnitude is null ? null : new Parameter(magnitude));
    }

    private static IEnumerable<AdapterPart> Experts(string name, nn.Module module, LoraConfig config, IAdapterWeights weights)
    {
        var experts = AdapterTargets.Experts((name, module), config).ToList();
        foreach (var matrix in experts)
        {
            var (parameter, isInner) = ($"{name}.{matrix.Name}", experts.Count == 2 && matrix == experts[0]);
            yield return new ExpertLora(name, matrix, weights.Experts(ExpertLora.FileName(name, isInner), matrix, config.RankOf(parameter)), config.ScaleOf(parameter), isInner);
        }
    }
}
