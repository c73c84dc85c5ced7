using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
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
}

/// <summary>The parts of an adapter of any kind that replace weights: modules_to_save, trained biases, and a resized embedding or head.</summary>
internal static class WholeParts
{
    /// <summary>The parts of a module, which come before its update.</summary>
    /// <param name="model">The base model.</param>
    /// <param name="module">The module.</param>
    /// <param name="config">The settings.</param>
    /// <param name="weights">Source of the weights.</param>
    internal static IEnumerable<AdapterPart> Of(CausalLanguageModel model, (string Name, nn.Module Module) module, AdapterConfig config, IWholeWeights weights)
    {
        var slots = ((IWeighted)module.Module).Slots;
        if (config.SavesWhole(module.Name))
        {
            foreach (var slot in slots)
            {
                var file = $"{module.Name}.{slot.Name}";
                yield return new ReplacedWeight(module.Name, slot, weights.Whole(file, module.Module, slot, required: true), file, inFile: true);
            }

            yield break;
        }

        var adapted = AdapterTargets.IsAdapted(model, module, config);
        if (model.Config.Names.IsEmbeddingOrHead(module.Name))
        {
            var file = adapted ? $"{module.Name}.base_layer.weight" : $"{module.Name}.weight";
            if (weights.Frozen(file, slots[0]) is { } frozen)
            {
                yield return new ReplacedWeight(module.Name, slots[0], frozen, file, inFile: !adapted);
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
}
