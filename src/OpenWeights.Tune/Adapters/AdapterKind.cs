using System.Text.Json.Nodes;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Adapters.Kinds;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>
/// A kind of adapter: how its settings are read and written, which tensors it has, and the parts that it puts on a model. A kind is one file
/// and one line in <see cref="AdapterKinds"/>.
/// </summary>
internal abstract class AdapterKind
{
    /// <summary>PEFT's peft_type, such as LOHA.</summary>
    internal abstract string PeftType { get; }

    /// <summary>The settings' type.</summary>
    internal abstract Type Settings { get; }

    /// <summary>Reads adapter_config.json.</summary>
    /// <param name="json">The file.</param>
    /// <param name="path">Its path, for messages.</param>
    /// <param name="unknown">Keys that are unknown and have a value, for a warning.</param>
    /// <exception cref="InvalidDataException">A setting is invalid or not supported.</exception>
    internal abstract AdapterConfig Read(JsonObject json, string path, out IReadOnlyList<string> unknown);

    /// <summary>Settings of an adapter as PEFT writes them, based on the file that it was loaded from, if any.</summary>
    /// <param name="adapter">The adapter.</param>
    /// <param name="baseModel">The base model to name if the adapter names none.</param>
    internal abstract JsonObject Write(PeftAdapter adapter, string? baseModel);

    /// <summary>Problems of settings with a model, each with the name of the setting, including the index in its list.</summary>
    internal abstract IEnumerable<(string Setting, string Message)> Problems(CausalLanguageModel model, AdapterConfig config);

    /// <summary>Settings of a new adapter, with what depends on the model resolved.</summary>
    /// <exception cref="InvalidDataException">The settings do not fit the model.</exception>
    internal virtual AdapterConfig Resolve(CausalLanguageModel model, AdapterConfig config) => config;

    /// <summary>Adds a new adapter to a model.</summary>
    /// <param name="model">The base model.</param>
    /// <param name="config">The settings.</param>
    /// <param name="generator">Source of random numbers.</param>
    /// <param name="data">Training data, for what is computed from it; null for none.</param>
    internal abstract PeftAdapter Fresh(CausalLanguageModel model, AdapterConfig config, Generator generator, StartData? data);

    /// <summary>Adds an adapter whose weights have a shape but no memory, for an estimate.</summary>
    internal abstract PeftAdapter Meta(CausalLanguageModel model, AdapterConfig config);

    /// <summary>Adds an adapter from a file, after a check of its tensors.</summary>
    /// <param name="model">The base model.</param>
    /// <param name="config">The settings.</param>
    /// <param name="file">The file.</param>
    /// <param name="source">The adapter_config.json.</param>
    /// <param name="warn">Receives warnings; null for none.</param>
    /// <exception cref="InvalidDataException">Tensors are missing, misshapen or unexpected.</exception>
    internal abstract PeftAdapter Load(CausalLanguageModel model, AdapterConfig config, SafetensorsFile file, JsonObject source, Action<string>? warn);

    /// <summary>Whether an adapter's file does not change the base model.</summary>
    /// <param name="config">The settings.</param>
    /// <param name="file">The file.</param>
    /// <param name="model">The base model; null if it is not loaded.</param>
    internal abstract bool HasNoEffect(AdapterConfig config, ITensorSource file, CausalLanguageModel? model);

    /// <summary>Whether loading, merging or saving an adapter needs the base model's values.</summary>
    internal virtual bool NeedsBaseValues(AdapterConfig config) => false;
}

/// <summary>All kinds of adapters.</summary>
internal static class AdapterKinds
{
    private static readonly AdapterKind[] s_all =
    [
        new LoraKind(),
        new TrainableTokensKind(),
        new Ia3Kind(),
        new LnTuningKind(),
        new LohaKind(),
        new LokrKind(),
        new VeraKind(),
        new OftKind(),
        new BoftKind(),
        new MissKind(),
        new PromptTuningKind(),
        new PrefixTuningKind(),
        new PTuningKind(),
        new AdaloraKind(),
        new DeloraKind(),
        new RandloraKind(),
        new C3aKind(),
        new ShiraKind(),
        new HraKind(),
        new HiraKind(),
        new GraloraKind(),
        new FourierftKind(),
        new RoadKind(),
        new VbloraKind(),
        new WaveftKind(),
    ];

    /// <summary>The kinds.</summary>
    internal static IReadOnlyList<AdapterKind> All => s_all;

    /// <summary>The kind of some settings.</summary>
    /// <param name="config">The settings.</param>
    internal static AdapterKind Of(AdapterConfig config) => Array.Find(s_all, k => k.Settings == config.GetType()) ?? throw new NotSupportedException($"no kind of adapter has {config.GetType().Name}");

    /// <summary>The kind of an adapter's file.</summary>
    /// <param name="json">The adapter_config.json.</param>
    /// <param name="path">Its path, for messages.</param>
    /// <exception cref="InvalidDataException">The kind is not supported.</exception>
    internal static AdapterKind Of(JsonObject json, string path) => Array.Find(s_all, k => k.PeftType == json["peft_type"]?.ToString()) ?? throw new InvalidDataException(
        $"{path}: peft_type: '{json["peft_type"]}' adapters are not supported; supported are {string.Join(", ", s_all.Select(static k => k.PeftType))}.");
}
