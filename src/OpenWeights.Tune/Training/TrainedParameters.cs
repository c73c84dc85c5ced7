using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Optimizers;
using TorchSharp.Modules;

namespace OpenWeights.Tune.Training;

/// <summary>The trained parameters of a model or an adapter, with what optimizers need to know of each.</summary>
internal static class TrainedParameters
{
    /// <summary>Those of a model's own weights.</summary>
    /// <param name="model">The model.</param>
    /// <param name="decayNormsAndBiases">Whether weight decay also applies to norms and biases.</param>
    /// <param name="trains">Selects the trained weights; null for all.</param>
    internal static IReadOnlyList<TrainedParameter> Of(CausalLanguageModel model, bool decayNormsAndBiases, TrainedWeights? trains = null) =>
    [
        .. from weight in model.named_parameters()
           where trains?.Includes(weight.name, weight.parameter.ndim) ?? true
           select new TrainedParameter(weight.name, weight.parameter, decayNormsAndBiases || weight.parameter.ndim > 1) { IsHiddenMatrix = IsHidden(model, weight.name, weight.parameter) },
    ];

    /// <summary>Those of an adapter.</summary>
    /// <param name="adapter">The adapter.</param>
    /// <param name="rates">Learning rates by LoRA+; null if they are all equal.</param>
    /// <param name="decayNormsAndBiases">Whether weight decay also applies to trained norms and biases.</param>
    /// <param name="freezesA">Whether the matrices A of low-rank updates are not trained (LoRA-FA).</param>
    internal static IReadOnlyList<TrainedParameter> Of(PeftAdapter adapter, LoraPlusRates? rates, bool decayNormsAndBiases, bool freezesA = false)
    {
        var trained = new List<TrainedParameter>();
        foreach (var part in adapter.Parts)
        {
            foreach (var (name, parameter) in part.Parameters)
            {
                var pair = Pair(part, parameter);
                if (freezesA && pair is { IsUp: false })
                {
                    parameter.requires_grad = false;
                    continue;
                }

                var decays = decayNormsAndBiases || part is not ReplacedWeight || parameter.ndim > 1;
                trained.Add(new TrainedParameter(name, parameter, decays, rates?.Factor(part, name, parameter) ?? 1)
                {
                    Pair = pair,
                    IsHiddenMatrix = part is not EmbeddingLora && IsHidden(adapter.Base, name, parameter),
                });
            }
        }

        return trained;
    }

    private static bool IsHidden(CausalLanguageModel model, string name, Parameter parameter)
    {
        var module = name.EndsWith(".weight", StringComparison.Ordinal) ? name[..^".weight".Length] : name;
        return (parameter.ndim == 2 && !model.Config.Names.IsEmbeddingOrHead(module) && module != model.Config.OutputModule && !name.Contains($".{model.Config.Names.Embedding}", StringComparison.Ordinal))
            || (parameter.ndim == 3 && name.Contains(".experts.", StringComparison.Ordinal));
    }

    private static LowRankPair? Pair(AdapterPart part, Parameter parameter) => part switch
    {
        LoraLayer { HasStart: false } layer => Pair(layer.A, layer.B, layer.Scale, parameter, isEmbedding: false),
        EmbeddingLora embedding => Pair(embedding.A, embedding.B, embedding.Scale, parameter, isEmbedding: true),
        _ => null,
    };

    private static LowRankPair? Pair(Parameter a, Parameter b, double scale, Parameter parameter, bool isEmbedding) =>
        ReferenceEquals(parameter, a) ? new LowRankPair(b, IsUp: false, scale, isEmbedding)
        : ReferenceEquals(parameter, b) ? new LowRankPair(a, IsUp: true, scale, isEmbedding)
        : null;
}
