using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>The tensors that the settings of a LoRA adapter and the base model require of its file.</summary>
internal static class LoraFileTensors
{
    /// <summary>The tensors.</summary>
    /// <param name="model">The base model.</param>
    /// <param name="config">The adapter's settings.</param>
    internal static ExpectedTensors Of(CausalLanguageModel model, LoraConfig config)
    {
        var tensors = new ExpectedTensors();
        var tie = WeightTie.Of(model, config);
        foreach (var (name, module) in AdapterTargets.Of(model, tie.Config))
        {
            if (tie.Keeps && name == model.Config.Names.Head)
            {
                AddTiedHead(tensors, model.Config.Names, (LinearLayer)module, tie.Config);
            }
            else
            {
                Add(tensors, model, name, module, tie.Config);
            }
        }

        return tensors;
    }

    private static void Add(ExpectedTensors tensors, CausalLanguageModel model, string name, nn.Module module, LoraConfig config)
    {
        var slots = ((IWeighted)module).Slots;
        if (config.SavesWhole(name))
        {
            foreach (var slot in slots)
            {
                tensors.Require($"{name}.{slot.Name}", Shape(module, slot));
            }

            return;
        }

        var adapted = AdapterTargets.IsAdapted(model, (name, module), config);
        if (module is LinearLayer { TakesAdapters: false } && config.Adapts(name))
        {
            tensors.AllowUpdate(name);
        }

        if (model.Config.Names.IsEmbeddingOrHead(name))
        {
            tensors.Allow(adapted ? $"{name}.base_layer.weight" : $"{name}.weight", Shape(module, slots[0]));
        }

        if (config.Bias == BiasTraining.All || (config.Bias == BiasTraining.LoraOnly && adapted))
        {
            foreach (var slot in slots.Where(static s => s.Name == "bias"))
            {
                tensors.AllowBias(adapted ? $"{name}.base_layer.bias" : $"{name}.bias", Shape(module, slot));
            }
        }

        if (adapted)
        {
            AddUpdate(tensors, name, module, config);
        }

        var experts = AdapterTargets.Experts((name, module), config).ToList();
        foreach (var matrix in experts)
        {
            var (file, ranks) = (ExpertLora.FileName(name, experts.Count == 2 && matrix == experts[0]), (long)config.RankOf($"{name}.{matrix.Name}") * matrix.Count);
            var (input, output) = matrix.UpdateFeatures;
            tensors.Require($"{file}.lora_A.weight", ranks, input);
            tensors.Require($"{file}.lora_B.weight", output, ranks);
        }
    }

    // PEFT also writes the head's tensors, which equal the embedding's.
    private static void AddTiedHead(ExpectedTensors tensors, DecoderNames names, LinearLayer head, LoraConfig config)
    {
        long rank = config.RankOf(names.EmbeddingModule);
        tensors.Allow($"{names.Head}.weight", head.OutFeatures, head.InFeatures);
        tensors.Allow($"{names.Head}.base_layer.weight", head.OutFeatures, head.InFeatures);
        tensors.Allow($"{names.Head}.lora_A.weight", rank, head.InFeatures);
        tensors.Allow($"{names.Head}.lora_B.weight", head.OutFeatures, rank);
    }

    private static void AddUpdate(ExpectedTensors tensors, string name, nn.Module module, LoraConfig config)
    {
        long rank = config.RankOf(config.PatternName(name));
        if (module is not LinearLayer layer)
        {
            var weight = ((TokenEmbedding)module).Weight;
            tensors.Require($"{name}.lora_embedding_A", rank, weight.size(0));
            tensors.Require($"{name}.lora_embedding_B", weight.size(1), rank);
            return;
        }

        tensors.Require($"{name}.lora_A.weight", rank, layer.InFeatures);
        tensors.Require($"{name}.lora_B.weight", layer.OutFeatures, rank);
        if (config.LoraBias)
        {
            tensors.Require($"{name}.lora_B.bias", layer.OutFeatures);
        }

        if (config.UseDora)
        {
            tensors.Require($"{name}.lora_magnitude_vector", layer.OutFeatures);
        }
    }

    private static long[] Shape(nn.Module module, WeightSlot slot) => slot.Own?.shape ?? [((LinearLayer)module).OutFeatures, ((LinearLayer)module).InFeatures];
}
