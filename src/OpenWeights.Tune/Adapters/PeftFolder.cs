using System.Globalization;
using System.Text.Json.Nodes;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>Reads and writes adapters in PEFT's folder format.</summary>
internal static class PeftFolder
{
    /// <summary>Prefix that PEFT adds to the base model's module names.</summary>
    internal const string Prefix = "base_model.model.";

    /// <summary>File of what a kind needs besides PEFT's files to go on with a run.</summary>
    private const string StateName = "training_state.safetensors";

    /// <summary>File name of a chat template.</summary>
    internal const string TemplateName = "chat_template.jinja";

    /// <summary>Loads an adapter and adds it to a model.</summary>
    /// <param name="model">The base model.</param>
    /// <param name="path">The adapter's folder, a run folder, or a checkpoint.</param>
    /// <param name="warn">Receives warnings about unknown settings, missing tensors, and an adapter without effect; null for none.</param>
    /// <param name="anyBase">Whether to accept a base model whose weights differ from those that the adapter was trained on.</param>
    /// <exception cref="InvalidDataException">The adapter is of another type, does not fit the model (the message lists all tensors that do
    /// not fit), or was trained on a base model with different weights.</exception>
    public static PeftAdapter Load(CausalLanguageModel model, string path, Action<string>? warn = null, bool anyBase = false)
    {
        ArgumentNullException.ThrowIfNull(model);
        var folder = AdapterFolder.Open(path);
        var configPath = Path.Combine(folder.FolderPath, AdapterFolder.ConfigName);
        var kind = AdapterKinds.Of(folder.Config, configPath);
        var config = kind.Read(folder.Config, configPath, out var unknown);
        if (unknown.Count > 0)
        {
            warn?.Invoke($"{configPath}: {string.Join(", ", unknown)}: unknown to this version and ignored.");
        }

        using var stored = Weights(folder, model.Config.Names);
        RequireUnpacked(model, stored);
        var source = folder.Config.DeepClone().AsObject();
        config = PatternOrder.Settled(model, config, source);
        var adapter = kind.Load(model, config, stored, source, warn);
        try
        {
            Check(adapter, folder, stored, (kind, config), warn, anyBase);
            return adapter;
        }
        catch
        {
            adapter.Dispose();
            throw;
        }
    }

    /// <summary>The name of a tensor in PEFT's file: with its prefix, except for those of no module.</summary>
    /// <param name="name">The name.</param>
    public static string FileName(string name) => name.StartsWith("base_model.", StringComparison.Ordinal) || !name.Contains('.', StringComparison.Ordinal) ? name : Prefix + name;

    /// <summary>The base model that an adapter names; null if it names none.</summary>
    /// <param name="config">The adapter_config.json.</param>
    internal static string? BaseName(JsonObject config) => config["base_model_name_or_path"]?.ToString() is { Length: > 0 } name ? name : null;

    private static void Check(PeftAdapter adapter, AdapterFolder folder, SafetensorsFile stored, (AdapterKind Kind, AdapterConfig Config) kind, Action<string>? warn, bool anyBase)
    {
        var path = folder.FolderPath;
        var fingerprint = stored.Metadata?.TryGetValue(BaseFingerprint.Key, out var text) == true ? BaseFingerprint.Parse(text) : null;
        if (!anyBase && fingerprint?.Difference(adapter.Base) is { } difference)
        {
            throw new InvalidDataException($"{path}: the adapter was trained on a different base model: {difference}. Use its own base model{Named(folder.Config)}, or force this one with --any-base (adapter.any_base in a run's YAML).");
        }

        RequireFinite(stored);
        if (kind.Kind.HasNoEffect(kind.Config, stored, adapter.Base))
        {
            warn?.Invoke($"{path}: the adapter has no effect: {AdapterEffect.Reason}.");
        }

        adapter.Fingerprint = anyBase ? null : fingerprint;
    }

    // Rows of an embedding that stays packed as a GGUF file has it are only read.
    private static void RequireUnpacked(CausalLanguageModel model, ITensorSource weights)
    {
        if (model.Stack.Embedding.Quantized is not null && weights.Tensors.Any(t => t.Name.StartsWith(FileName($"{model.Config.Names.EmbeddingModule}."), StringComparison.Ordinal)))
        {
            throw new InvalidDataException($"{weights.Location}: this adapter changes the embedding, which stays packed here as its file has it; unpack the base with --quantization none.");
        }
    }

    // A single NaN makes every answer empty, in any server of the adapter.
    private static void RequireFinite(ITensorSource weights)
    {
        foreach (var entry in weights.Tensors)
        {
            using var scope = NewDisposeScope();
            if (!TensorFiles.Read(weights, entry.Name).to(float32).isfinite().all().ToBoolean())
            {
                throw new InvalidDataException($"{weights.Location}: {entry.Name} contains NaN or infinity; its training diverged, so use an earlier checkpoint.");
            }
        }
    }

    /// <summary>
    /// The chat template in an adapter's folder, if it was trained with another one than the base model's; otherwise null.
    /// </summary>
    /// <param name="path">The folder.</param>
    public static string? ChatTemplate(string path) =>
        Path.Combine(AdapterFolder.Find(path) ?? path, TemplateName) is var file && File.Exists(file) ? File.ReadAllText(file) : null;

    /// <summary>Number of tokens of the model that an adapter was trained on: that of the embedding in its file, if it has one, and otherwise the base's.</summary>
    /// <param name="path">The adapter's folder.</param>
    /// <param name="config">The base model's config.</param>
    /// <exception cref="InvalidDataException">The folder has no adapter, or its file cannot be read.</exception>
    public static int VocabularySize(string path, DecoderConfig config)
    {
        ArgumentNullException.ThrowIfNull(config);
        using var weights = Weights(AdapterFolder.Open(path), config.Names);
        return (int)(LoraFileTensors.Vocabulary(config, weights) ?? config.VocabularySize);
    }

    /// <summary>
    /// Whether loading, merging or saving an adapter needs the base model's values, so that an outline (<see cref="ModelLoader.LoadMeta"/>)
    /// is not enough: it was initialized from them, is trained further, or contains them.
    /// </summary>
    /// <param name="path">The adapter's folder.</param>
    /// <exception cref="InvalidDataException">The adapter is of another type.</exception>
    public static bool NeedsBaseValues(string path)
    {
        var folder = AdapterFolder.Open(path);
        var configPath = Path.Combine(folder.FolderPath, AdapterFolder.ConfigName);
        var kind = AdapterKinds.Of(folder.Config, configPath);
        var config = kind.Read(folder.Config, configPath, out _);
        using var weights = folder.OpenWeights();

        // What lies outside the numbered layers is the embedding's or the head's, which are saved in full, or shared by the layers.
        return kind.NeedsBaseValues(config) || config.Bias != BiasTraining.None || config.ModulesToSave.Count > 0
            || weights.Tensors.Any(static t => t.Name.StartsWith(Prefix, StringComparison.Ordinal) && !t.Name.Split('.').Any(static part => int.TryParse(part, NumberStyles.None, CultureInfo.InvariantCulture, out _)));
    }

    /// <summary>Saves an adapter's two files in a folder. The settings of an adapter that was loaded from a folder are kept.</summary>
    /// <param name="adapter">The adapter.</param>
    /// <param name="path">The folder; created if missing.</param>
    /// <param name="baseModel">The base model's folder or Hub name to store in the file if the adapter does not name one.</param>
    /// <param name="ofFeatures">Whether the adapter is for the model without its head (PEFT's FEATURE_EXTRACTION), whose modules have shorter names.</param>
    /// <exception cref="IOException">The folder cannot be written.</exception>
    public static void Save(PeftAdapter adapter, string path, string? baseModel, bool ofFeatures = false)
    {
        ArgumentNullException.ThrowIfNull(adapter);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var (config, names) = (AdapterKinds.Of(adapter.Config).Write(adapter, baseModel), adapter.Base.Config.Names);
        if (adapter.Base.Config.Labels is { } labels)
        {
            config["task_type"] = "SEQ_CLS";
            LabelFile.Write(path, labels);
        }
        else if (ofFeatures || IsOfFeatures(config))
        {
            config["task_type"] = FeatureNames.TaskType;
        }

        AdapterFolder.Write(
            path,
            config,
            [.. Tensors(adapter).Select(t => TensorFiles.ToWrite(IsOfFeatures(config) ? FeatureNames.Short(FileName(t.Name), names) : FileName(t.Name), t.Tensor.dtype, t.Tensor.shape, () => Values(adapter, t)))],
            adapter.Fingerprint is { } fingerprint ? new Dictionary<string, string> { [BaseFingerprint.Key] = fingerprint.ToString() } : null);
        if (adapter.Schedule is { } schedule && schedule.State().Any())
        {
            SafetensorsWriter.Write(Path.Combine(path, StateName), [.. schedule.State().Select(static t => TensorFiles.ToWrite(t.Name, t.Tensor))], null);
        }
    }

    /// <summary>Loads the parameters of an adapter that <see cref="Save"/> wrote.</summary>
    /// <param name="adapter">The adapter.</param>
    /// <param name="path">The folder.</param>
    /// <exception cref="InvalidDataException">The folder contains another adapter.</exception>
    public static void Restore(PeftAdapter adapter, string path)
    {
        ArgumentNullException.ThrowIfNull(adapter);
        using var weights = Weights(AdapterFolder.Open(path), adapter.Base.Config.Names);
        using var nothing = no_grad();
        foreach (var part in adapter.Parts)
        {
            part.Restore(name => TensorFiles.Read(weights, FileName(name)));
        }

        if (adapter.Schedule is { } schedule && schedule.State().Any())
        {
            using var state = SafetensorsFile.Open(Path.Combine(AdapterFolder.Open(path).FolderPath, StateName));
            schedule.Restore(name => state.TryGetTensor(name, out _) ? TensorFiles.Read(state, name) : null);
        }
    }

    /// <summary>
    /// The tensors of an adapter's file, by name without PEFT's prefix; newly created ones belong to the current dispose scope.
    /// </summary>
    public static IReadOnlyList<(string Name, Tensor Tensor)> Tensors(PeftAdapter adapter)
    {
        ArgumentNullException.ThrowIfNull(adapter);
        var tensors = adapter.Parts.SelectMany(static p => p.FileTensors()).ToList();
        if (adapter.SavesAdaptedEmbeddings)
        {
            tensors.AddRange(adapter.Parts.Where(p => adapter.Base.Config.Names.IsEmbeddingOrHead(p.Module)).Select(static p => (Part: p, Weight: Weight(p)))
                .Where(static p => p.Weight is not null).Select(static p => ($"{p.Part.Module}.base_layer.weight", p.Weight!)));
        }

        return tensors;
    }

    // Ranks may share out the base's weights.
    private static Tensor Values(PeftAdapter adapter, (string Name, Tensor Tensor) written)
    {
        if (written.Name.EndsWith(".base_layer.weight", StringComparison.Ordinal))
        {
            adapter.Base.Stack.LayerWeights?.Show(written.Name);
        }

        return written.Tensor;
    }

    /// <summary>An adapter's tensors by the names that they have for a language model.</summary>
    /// <param name="folder">The adapter.</param>
    /// <param name="names">Names of the base model's modules.</param>
    /// <exception cref="InvalidDataException">The file cannot be read.</exception>
    public static SafetensorsFile Weights(AdapterFolder folder, DecoderNames names)
    {
        ArgumentNullException.ThrowIfNull(folder);
        ArgumentNullException.ThrowIfNull(names);
        return folder.OpenWeights(IsOfFeatures(folder.Config) ? name => FeatureNames.Long(name, names) : null);
    }

    private static bool IsOfFeatures(JsonObject config) => config["task_type"]?.ToString() == FeatureNames.TaskType;

    private static string Named(JsonObject config) => config["base_model_name_or_path"]?.ToString() is { Length: > 0 } name ? $" ({name})" : "";

    // The base weight of an adapted embedding or head.
    private static Tensor? Weight(AdapterPart part) => part switch
    {
        EmbeddingLora embedding => embedding.Target.Weight,
        EmbeddingPart embedding => embedding.Target.Weight,
        LoraLayer layer => layer.Target.Weight,
        LinearPart layer => layer.Target.Weight,
        TiedHeadLora head => head.Target.Weight,
        _ => null,
    };
}
