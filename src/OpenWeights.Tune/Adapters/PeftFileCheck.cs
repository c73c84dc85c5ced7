using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>
/// Compares the tensors of an adapter's file with those that its settings and the base model require, before any is read.
/// </summary>
internal sealed class PeftFileCheck
{
    private const int MaxListed = 6;
    private readonly Dictionary<string, long[]> _wanted = [];
    private readonly Dictionary<string, long[]> _possible = [];
    private readonly List<string> _biases = [];
    private readonly CausalLanguageModel _model;
    private readonly List<string> _withoutEffect = [];
    private readonly long _vocabulary;
    private readonly IReadOnlyDictionary<string, (IReadOnlyList<int> Tokens, bool Follows)> _tokens;

    private PeftFileCheck(CausalLanguageModel model, LoraConfig config, long vocabulary)
    {
        (_model, _vocabulary) = (model, vocabulary);
        var tie = WeightTie.Of(model, config);
        _tokens = TokenTargeting.Of(model, config);
        foreach (var (name, module) in AdapterTargets.Of(model, tie.Config))
        {
            if (tie.Keeps && name == model.Config.Names.Head)
            {
                AddTiedHead((LinearLayer)module, tie.Config);
            }
            else
            {
                Add(name, module, tie.Config);
            }
        }
    }

    /// <summary>Throws one exception that lists all missing, misshapen and unexpected tensors.</summary>
    /// <param name="model">The base model.</param>
    /// <param name="config">The adapter's settings.</param>
    /// <param name="file">The adapter's file.</param>
    /// <param name="made">The base model that the adapter names; null if it names none.</param>
    /// <param name="warn">Receives warnings.</param>
    internal static void Run(CausalLanguageModel model, LoraConfig config, ITensorSource file, string? made, Action<string>? warn)
    {
        var check = new PeftFileCheck(model, config, Vocabulary(model, file));
        var problems = new List<string>();
        foreach (var (name, shape) in check._wanted)
        {
            if (!file.TryGetTensor(PeftFolder.Prefix + name, out _))
            {
                problems.Add($"missing: {PeftFolder.Prefix}{name} {Sizes(shape)}");
            }
        }

        foreach (var entry in file.Tensors)
        {
            var name = entry.Name.StartsWith(PeftFolder.Prefix, StringComparison.Ordinal) ? entry.Name[PeftFolder.Prefix.Length..] : entry.Name;
            if (check._withoutEffect.Exists(module => name.StartsWith($"{module}.lora_", StringComparison.Ordinal)))
            {
                continue;
            }

            if (!check._wanted.TryGetValue(name, out var shape) && !check._possible.TryGetValue(name, out shape))
            {
                problems.Add($"unexpected: {entry.Name}{(IsOfOtherPart(model.Config, name) ? ", of a part of the model that is not loaded here: only adapters of the text model alone are supported" : "")}");
            }
            else if (!entry.Shape.SequenceEqual(shape))
            {
                var resized = model.Config.Names.IsEmbeddingOrHead(name.Replace(".base_layer", "", StringComparison.Ordinal).Replace(".weight", "", StringComparison.Ordinal));
                problems.Add($"misshapen: {entry.Name} is {Sizes(entry.Shape)}, but the base model and the adapter's settings require {Sizes(shape)}"
                    + (resized ? " (embedding and head of a resized vocabulary must have the same number of tokens)" : ""));
            }
        }

        if (problems.Count > 0)
        {
            throw new InvalidDataException($"{file.Location}: the adapter does not fit this base model ({problems.Count} tensors){(made is null ? "" : $"; it was trained on {made}")}:\n  {string.Join("\n  ", problems.Take(MaxListed))}{(problems.Count > MaxListed ? $"\n  and {problems.Count - MaxListed} more" : "")}");
        }

        if (check._biases.Count > 0 && !check._biases.Any(b => file.TryGetTensor(PeftFolder.Prefix + b, out _)))
        {
            warn?.Invoke($"{file.Location}: the settings say that biases were trained, but the file contains none (PEFT does not save those of lora_only); the base model's biases are used.");
        }
    }

    private void Add(string name, nn.Module module, LoraConfig config)
    {
        var slots = ((IWeighted)module).Slots;
        if (config.SavesWhole(name))
        {
            foreach (var slot in slots)
            {
                _wanted[$"{name}.{slot.Name}"] = Shape(name, module, slot);
                if (_model.Config.Names.IsEmbeddingOrHead(name))
                {
                    _possible[$"{name}.modules_to_save.{slot.Name}"] = _possible[$"{name}.original_module.{slot.Name}"] = Shape(name, module, slot);
                }
            }

            return;
        }

        var adapted = AdapterTargets.IsAdapted(_model, (name, module), config);
        if (module is LinearLayer { TakesAdapters: false } && config.Adapts(name))
        {
            _withoutEffect.Add(name);
        }

        if (_model.Config.Names.IsEmbeddingOrHead(name))
        {
            _possible[LoraParts.FrozenName(config, name, adapted, _tokens.ContainsKey(name))] = Shape(name, module, slots[0]);
        }

        if (config.Bias == BiasTraining.All || (config.Bias == BiasTraining.LoraOnly && adapted))
        {
            foreach (var slot in slots.Where(static s => s.Name == "bias"))
            {
                var bias = adapted ? $"{name}.base_layer.bias" : $"{name}.bias";
                _possible[bias] = Shape(name, module, slot);
                _biases.Add(bias);
            }
        }

        if (_tokens.TryGetValue(name, out var own))
        {
            (own.Follows ? _possible : _wanted)[new TokenFileNames(config.TrainsTokensAlone).Rows(name)] = [own.Tokens.Count, slots[0].Own?.size(1) ?? ((LinearLayer)module).InFeatures];
        }

        if (adapted)
        {
            AddUpdate(name, module, config);
        }

        var experts = AdapterTargets.Experts((name, module), config).ToList();
        foreach (var matrix in experts)
        {
            var (file, ranks) = (ExpertLora.FileName(name, experts.Count == 2 && matrix == experts[0]), (long)config.RankOf($"{name}.{matrix.Name}") * matrix.Count);
            var (input, output) = matrix.UpdateFeatures;
            _wanted[$"{file}.lora_A.weight"] = [ranks, input];
            _wanted[$"{file}.lora_B.weight"] = [output, ranks];
        }
    }

    private static bool IsOfOtherPart(DecoderConfig config, string name) =>
        config.IsPart && !name.StartsWith($"{config.Names.Stack}.", StringComparison.Ordinal) && !name.StartsWith($"{config.Names.Head}.", StringComparison.Ordinal);

    // PEFT also writes the head's tensors, which equal the embedding's.
    private void AddTiedHead(LinearLayer head, LoraConfig config)
    {
        var names = _model.Config.Names;
        long rank = config.RankOf(names.EmbeddingModule);
        _possible[$"{names.Head}.weight"] = _possible[$"{names.Head}.base_layer.weight"] = [_vocabulary, head.InFeatures];
        _possible[$"{names.Head}.lora_A.weight"] = [rank, head.InFeatures];
        _possible[$"{names.Head}.lora_B.weight"] = [_vocabulary, rank];
    }

    private void AddUpdate(string name, nn.Module module, LoraConfig config)
    {
        long rank = config.RankOf(config.PatternName(name));
        if (module is not LinearLayer layer)
        {
            var weight = ((TokenEmbedding)module).Weight;
            _wanted[$"{name}.lora_embedding_A"] = [rank, _vocabulary];
            _wanted[$"{name}.lora_embedding_B"] = [weight.size(1), rank];
            if (config.UseDora)
            {
                _wanted[$"{name}.lora_magnitude_vector"] = [weight.size(1)];
            }

            return;
        }

        var (a, b) = LoraForms.Shapes(config, name, layer, rank);
        _wanted[$"{name}.lora_A.weight"] = a;
        _wanted[$"{name}.lora_B.weight"] = [name == _model.Config.Names.Head && b[0] == _model.VocabularySize ? _vocabulary : b[0], b[1]];
        if (config.Kasa is not null)
        {
            _wanted[$"{name}.lora_diag"] = [rank];
        }

        if (config.LoraBias)
        {
            _wanted[$"{name}.lora_B.bias"] = [layer.OutFeatures];
        }

        if (config.UseDora)
        {
            _wanted[$"{name}.lora_magnitude_vector"] = [layer.OutFeatures];
        }
    }

    // Complete embeddings and heads have a row for each token, of which there may be more than the base has.
    private long[] Shape(string name, nn.Module module, WeightSlot slot)
    {
        var shape = slot.Own?.shape ?? [((LinearLayer)module).OutFeatures, ((LinearLayer)module).InFeatures];
        return _model.Config.Names.IsEmbeddingOrHead(name) && shape[0] == _model.VocabularySize ? [_vocabulary, .. shape[1..]] : shape;
    }

    /// <summary>Number of tokens of the model that an adapter's file was trained on: the rows of the embedding in it, if it has one.</summary>
    /// <param name="model">The base model.</param>
    /// <param name="file">The adapter's file.</param>
    internal static long Vocabulary(CausalLanguageModel model, ITensorSource file)
    {
        var embedding = PeftFolder.Prefix + model.Config.Names.EmbeddingModule;
        foreach (var name in new[] { "weight", "base_layer.weight", "token_adapter.base_layer.weight" })
        {
            if (file.TryGetTensor($"{embedding}.{name}", out var entry) && entry.Shape is [var rows, var width] && width == model.Config.HiddenSize)
            {
                return rows;
            }
        }

        return model.VocabularySize;
    }

    private static string Sizes(IEnumerable<long> shape) => $"[{string.Join(", ", shape)}]";
}
