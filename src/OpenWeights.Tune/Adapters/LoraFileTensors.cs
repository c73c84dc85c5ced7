using OpenWeights.Formats.Safetensors;
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
    /// <param name="vocabulary">Number of tokens of the model that the adapter was trained on.</param>
    internal static ExpectedTensors Of(CausalLanguageModel model, LoraConfig config, long vocabulary)
    {
        var tensors = new ExpectedTensors();
        var tokens = TokenTargeting.Of(model, config);
        var tie = WeightTie.Of(model, config);
        foreach (var (name, module) in AdapterTargets.Of(model, tie.Config))
        {
            if (tie.Keeps && name == model.Config.Names.Head)
            {
                AddTiedHead(tensors, model.Config.Names, (LinearLayer)module, tie.Config, vocabulary);
            }
            else
            {
                Add(tensors, model, (name, module), tie.Config, tokens, vocabulary);
            }
        }

        return tensors;
    }

    /// <summary>Number of tokens of the model that an adapter's file was trained on: the rows of the embedding in it, if it has one.</summary>
    /// <param name="model">The base model.</param>
    /// <param name="file">The adapter's file.</param>
    internal static long Vocabulary(CausalLanguageModel model, ITensorSource file) => Vocabulary(model.Config, file) ?? model.VocabularySize;

    /// <summary>The same; null if the file has no embedding.</summary>
    /// <param name="config">The base model's config.</param>
    /// <param name="file">The adapter's file.</param>
    internal static long? Vocabulary(DecoderConfig config, ITensorSource file)
    {
        foreach (var name in new[] { "weight", "base_layer.weight", "token_adapter.base_layer.weight" })
        {
            if (file.TryGetTensor(PeftFolder.FileName($"{config.Names.EmbeddingModule}.{name}"), out var entry) && entry.Shape is [var rows, var width] && width == config.HiddenSize)
            {
                return rows;
            }
        }

        return null;
    }

    private static void Add(
        ExpectedTensors tensors, CausalLanguageModel model, (string Name, nn.Module Module) at, LoraConfig config, IReadOnlyDictionary<string, (IReadOnlyList<int> Tokens, bool Follows)> tokens, long vocabulary)
    {
        var (name, module) = at;
        var isVocabulary = model.Config.Names.IsEmbeddingOrHead(name);

        // Complete embeddings and heads have a row for each token, of which there may be more than the base has.
        long[] Shape(WeightSlot slot)
        {
            // A packed weight has no tensor of its own.
            var shape = slot.Own?.shape ?? (module is TokenEmbedding { Quantized: { } packed } ? [packed.OutFeatures, packed.InFeatures] : [((LinearLayer)module).OutFeatures, ((LinearLayer)module).InFeatures]);
            return isVocabulary && shape[0] == model.VocabularySize ? [vocabulary, .. shape[1..]] : shape;
        }

        var slots = ((IWeighted)module).Slots;
        if (config.SavesWhole(name))
        {
            foreach (var slot in slots)
            {
                tensors.Require($"{name}.{slot.Name}", Shape(slot));
                if (isVocabulary)
                {
                    tensors.Allow($"{name}.modules_to_save.{slot.Name}", Shape(slot));
                    tensors.Allow($"{name}.original_module.{slot.Name}", Shape(slot));
                }
            }

            return;
        }

        var adapted = AdapterTargets.IsAdapted(model, (name, module), config);
        if (module is LinearLayer { TakesAdapters: false } && config.Adapts(name))
        {
            tensors.AllowUpdate(name);
        }

        if (isVocabulary)
        {
            tensors.Allow(LoraParts.FrozenName(config, name, adapted, tokens.ContainsKey(name)), Shape(slots[0]));
        }

        if (config.Bias == BiasTraining.All || (config.Bias == BiasTraining.LoraOnly && adapted))
        {
            foreach (var slot in slots.Where(static s => s.Name == "bias"))
            {
                tensors.AllowBias(adapted ? $"{name}.base_layer.bias" : $"{name}.bias", Shape(slot));
            }
        }

        if (tokens.TryGetValue(name, out var own))
        {
            if (own.Tokens.FirstOrDefault(t => t < 0 || t >= (isVocabulary ? vocabulary : Shape(slots[0])[0]), -1) is var unknown and >= 0)
            {
                throw new InvalidDataException($"trainable_token_indices: {unknown} is not one of the model's {(isVocabulary ? vocabulary : Shape(slots[0])[0])} tokens.");
            }

            var (rows, width) = (new TokenFileNames(config.TrainsTokensAlone).Rows(name), Shape(slots[0])[1]);
            if (own.Follows && !config.TrainsTokensAlone)
            {
                tensors.Allow(rows, own.Tokens.Count, width);
            }
            else
            {
                tensors.Require(rows, own.Tokens.Count, width);
            }
        }

        if (adapted)
        {
            AddUpdate(tensors, name, module, config, isVocabulary ? vocabulary : null);
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
    private static void AddTiedHead(ExpectedTensors tensors, DecoderNames names, LinearLayer head, LoraConfig config, long vocabulary)
    {
        long rank = config.RankOf(names.EmbeddingModule);
        tensors.Allow($"{names.Head}.weight", vocabulary, head.InFeatures);
        tensors.Allow($"{names.Head}.base_layer.weight", vocabulary, head.InFeatures);
        tensors.Allow($"{names.Head}.lora_A.weight", rank, head.InFeatures);
        tensors.Allow($"{names.Head}.lora_B.weight", vocabulary, rank);
    }

    private static void AddUpdate(ExpectedTensors tensors, string name, nn.Module module, LoraConfig config, long? vocabulary)
    {
        long rank = config.RankOf(config.PatternName(name));
        if (module is not LinearLayer layer)
        {
            var weight = ((TokenEmbedding)module).Weight;
            tensors.Require($"{name}.lora_embedding_A", rank, vocabulary ?? weight.size(0));
            tensors.Require($"{name}.lora_embedding_B", weight.size(1), rank);
            if (config.UseDora)
            {
                tensors.Require($"{name}.lora_magnitude_vector", weight.size(1));
            }

            return;
        }

        var (a, b) = LoraForms.Shapes(config, name, layer, rank);
        tensors.Require($"{name}.lora_A.weight", a);
        tensors.Require($"{name}.lora_B.weight", vocabulary is { } tokens ? [tokens, .. b[1..]] : b);
        if (config.Kasa is not null)
        {
            tensors.Require($"{name}.lora_diag", rank);
        }

        if (config.LoraBias)
        {
            tensors.Require($"{name}.lora_B.bias", layer.OutFeatures);
        }

        if (config.UseDora)
        {
            tensors.Require($"{name}.lora_magnitude_vector", layer.OutFeatures);
        }
    }
}
