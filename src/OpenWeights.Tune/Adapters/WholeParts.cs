using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>Source of the complete weights of an adapter, of any kind. The tensors are in no dispose scope.</summary>
internal interface IWholeWeights
{
    /// <summary>A fully trained weight that replaces the base model's.</summary>
    /// <param name="fileName">Its name in PEFT's file.</param>
    /// <param name="module">The module.</param>
    /// <param name="slot">The slot.</param>
    /// <param name="required">Whether a file must have it; PEFT does not save every trained bias.</param>
    Parameter Whole(string fileName, nn.Module module, WeightSlot slot, bool required);

    /// <summary>A complete embedding or head that replaces the base model's and is not trained; null to keep the base model's.</summary>
    /// <param name="fileName">Its name in PEFT's file.</param>
    /// <param name="slot">The slot.</param>
    Parameter? Frozen(string fileName, WeightSlot slot);

    /// <summary>Of a module with a resized vocabulary that is trained in full, its weight before training; null if it is not known.</summary>
    /// <param name="fileName">Its name in PEFT's file.</param>
    /// <param name="slot">The slot.</param>
    Tensor? BeforeTraining(string fileName, WeightSlot slot);
}

/// <summary>The parts of an adapter of any kind that replace weights: modules_to_save, trained biases, and a resized embedding or head.</summary>
internal static class WholeParts
{
    /// <summary>The parts of a module, which come before its update.</summary>
    /// <param name="model">The base model.</param>
    /// <param name="module">The module.</param>
    /// <param name="config">The settings.</param>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="frozenName">Name in PEFT's file of a complete embedding or head that is not trained; null for the usual one.</param>
    /// <param name="before">The parts of the modules before it, for a head that is tied to the embedding; null otherwise.</param>
    internal static IEnumerable<AdapterPart> Of(
        CausalLanguageModel model, (string Name, nn.Module Module) module, AdapterConfig config, IWholeWeights weights, string? frozenName = null, IReadOnlyList<AdapterPart>? before = null)
    {
        var slots = ((IWeighted)module.Module).Slots;
        if (config.SavesWhole(module.Name))
        {
            foreach (var slot in slots)
            {
                var file = $"{module.Name}.{slot.Name}";
                yield return new ReplacedWeight(module.Name, slot, weights.Whole(file, module.Module, slot, required: true), file, inFile: true, weights.BeforeTraining($"{module.Name}.original_module.{slot.Name}", slot));
            }

            yield break;
        }

        var adapted = AdapterTargets.IsAdapted(model, module, config);
        if (model.Config.Names.IsEmbeddingOrHead(module.Name))
        {
            var file = frozenName ?? (adapted ? $"{module.Name}.base_layer.weight" : $"{module.Name}.weight");
            var embedding = before?.OfType<ReplacedWeight>().FirstOrDefault(p => p.Module == model.Config.Names.EmbeddingModule && !p.Value.requires_grad);
            if (weights.Frozen(file, slots[0]) is { } frozen)
            {
                // A resized vocabulary of a tied model is saved for both ends.
                var isShared = embedding is not null && (model.IsMeta || AreEqual(embedding.Value, frozen));
                if (isShared)
                {
                    frozen.Dispose();
                }

                yield return isShared ? new ReplacedWeight(module.Name, slots[0], embedding!, fileName: file) : new ReplacedWeight(module.Name, slots[0], frozen, file, inFile: !adapted);
            }
            else if (embedding is not null && embedding.Grows)
            {
                yield return new ReplacedWeight(module.Name, slots[0], embedding, inFile: false);
            }
        }

        if (config.Bias == BiasTraining.All || (config.Bias == BiasTraining.LoraOnly && adapted))
        {
            foreach (var slot in slots.Where(static s => s.Name == "bias"))
            {
                var file = adapted ? $"{module.Name}.base_layer.bias" : $"{module.Name}.bias";
                yield return new ReplacedWeight(module.Name, slot, weights.Whole(file, module.Module, slot, required: false), file, inFile: true);
            }
        }
    }

    private static bool AreEqual(Tensor first, Tensor second)
    {
        using var scope = NewDisposeScope();
        return first.shape.SequenceEqual(second.shape) && first.eq(second).all().ToBoolean();
    }
}
