using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Adapters;

/// <summary>
/// The tensors that an adapter's settings and the base model require of its file, with their shapes; they are compared before any is read.
/// </summary>
internal sealed class ExpectedTensors
{
    private const int MaxListed = 6;
    private readonly Dictionary<string, long[]> _wanted = [];
    private readonly Dictionary<string, long[]> _possible = [];
    private readonly List<string> _biases = [];
    private readonly List<string> _withoutEffect = [];

    /// <summary>A tensor that the file must have.</summary>
    /// <param name="name">Its name without PEFT's prefix.</param>
    /// <param name="shape">Its shape.</param>
    internal void Require(string name, params long[] shape) => _wanted[name] = shape;

    /// <summary>A tensor that the file may have.</summary>
    /// <param name="name">Its name without PEFT's prefix.</param>
    /// <param name="shape">Its shape.</param>
    internal void Allow(string name, params long[] shape) => _possible[name] = shape;

    /// <summary>A trained bias, which not every version of PEFT saves.</summary>
    /// <param name="name">Its name without PEFT's prefix.</param>
    /// <param name="shape">Its shape.</param>
    internal void AllowBias(string name, params long[] shape)
    {
        Allow(name, shape);
        _biases.Add(name);
    }

    /// <summary>A module whose update PEFT saves, but does not apply.</summary>
    /// <param name="module">Name of the module.</param>
    internal void AllowUpdate(string module) => _withoutEffect.Add(module);

    /// <summary>Throws one exception that lists all missing, misshapen and unexpected tensors.</summary>
    /// <param name="model">The base model.</param>
    /// <param name="file">The adapter's file.</param>
    /// <param name="made">The base model that the adapter names; null if it names none.</param>
    /// <param name="warn">Receives warnings.</param>
    internal void Check(CausalLanguageModel model, ITensorSource file, string? made, Action<string>? warn)
    {
        var problems = new List<string>();
        foreach (var (name, shape) in _wanted)
        {
            if (!file.TryGetTensor(PeftFolder.FileName(name), out _))
            {
                problems.Add($"missing: {PeftFolder.FileName(name)} {Sizes(shape)}");
            }
        }

        foreach (var entry in file.Tensors)
        {
            var name = entry.Name.StartsWith(PeftFolder.Prefix, StringComparison.Ordinal) ? entry.Name[PeftFolder.Prefix.Length..] : entry.Name;
            if (_withoutEffect.Exists(module => name.StartsWith($"{module}.lora_", StringComparison.Ordinal)))
            {
                continue;
            }

            if (!_wanted.TryGetValue(name, out var shape) && !_possible.TryGetValue(name, out shape))
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

        if (problems is [var only])
        {
            throw new InvalidDataException($"{file.Location}: the adapter does not fit this base model{(made is null ? "" : $"; it was trained on {made}")}: {only}.");
        }

        if (problems.Count > 0)
        {
            throw new InvalidDataException($"{file.Location}: the adapter does not fit this base model ({problems.Count} tensors){(made is null ? "" : $"; it was trained on {made}")}:\n  {string.Join("\n  ", problems.Take(MaxListed))}{(problems.Count > MaxListed ? $"\n  and {problems.Count - MaxListed} more" : "")}");
        }

        if (_biases.Count > 0 && !_biases.Any(b => file.TryGetTensor(PeftFolder.FileName(b), out _)))
        {
            warn?.Invoke($"{file.Location}: the settings say that biases were trained, but the file contains none (PEFT does not save those of lora_only); the base model's biases are used.");
        }
    }

    private static bool IsOfOtherPart(DecoderConfig config, string name) =>
        config.IsPart && !name.StartsWith($"{config.Names.Stack}.", StringComparison.Ordinal) && !name.StartsWith($"{config.OutputModule}.", StringComparison.Ordinal);

    private static string Sizes(IEnumerable<long> shape) => $"[{string.Join(", ", shape)}]";
}
