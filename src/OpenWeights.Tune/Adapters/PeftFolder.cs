using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>LoRA adapters from and to the folders that PEFT reads and writes.</summary>
public static class PeftFolder
{
    /// <summary>What PEFT puts before the names of the base's modules.</summary>
    internal const string Prefix = "base_model.model.";

    /// <summary>The name of a chat template's file.</summary>
    internal const string TemplateName = "chat_template.jinja";

    /// <summary>Reads an adapter and puts it on a model.</summary>
    /// <param name="model">The adapter's base.</param>
    /// <param name="path">The adapter's folder, a run's, or a checkpoint's.</param>
    /// <param name="warn">Is told of settings that are not known, of what the file lacks, and of an adapter that changes nothing; null for nobody.</param>
    /// <param name="anyBase">Whether a base is taken whose values are not those that the adapter was made for.</param>
    /// <exception cref="InvalidDataException">The adapter is of another kind, or does not fit the model; all tensors that do not fit are listed. Or it was
    /// made for a base with other values.</exception>
    public static LoraAdapter Load(CausalLanguageModel model, string path, Action<string>? warn = null, bool anyBase = false)
    {
        ArgumentNullException.ThrowIfNull(model);
        var folder = AdapterFolder.Open(path);
        var configPath = Path.Combine(folder.FolderPath, AdapterFolder.ConfigName);
        var config = PeftConfig.Read(folder.Config, configPath, out var unknown);
        if (unknown.Count > 0)
        {
            warn?.Invoke($"{configPath}: {string.Join(", ", unknown)}: not known to this version, and left out of account.");
        }

        using var weights = folder.OpenWeights();
        PeftFileCheck.Run(model, config, weights, folder.Config["base_model_name_or_path"]?.ToString() is { Length: > 0 } made ? made : null, warn);
        if (WeightTie.Of(model, config).Keeps && HeadTie.IsBroken(weights, $"{Prefix}{WeightTie.Embedding}.weight", $"{Prefix}{WeightTie.Head}.weight"))
        {
            warn?.Invoke($"{weights.Location}: ensure_weight_tying says that embedding and head are one weight, and the file has two that differ; the embedding's is used for both.");
        }

        var fingerprint = weights.Metadata?.TryGetValue(BaseFingerprint.Key, out var text) == true ? BaseFingerprint.Parse(text) : null;
        if (!anyBase && fingerprint?.Difference(model) is { } difference)
        {
            throw new InvalidDataException($"{path}: the adapter was made for another base model: {difference}. Give its own base{Named(folder.Config)}; --any-base (adapter.any_base in a run's YAML) takes this one anyway.");
        }

        RequireFinite(weights);
        if (AdapterEffect.IsNone(config, weights, model))
        {
            warn?.Invoke($"{path}: the adapter changes nothing: {AdapterEffect.Reason}.");
        }

        var savesEmbeddings = weights.Tensors.Any(static t => t.Name.EndsWith(".base_layer.weight", StringComparison.Ordinal));
        var adapter = LoraAdapter.Attach(model, config, new FileWeights(model, config, weights), folder.Config.DeepClone().AsObject(), savesEmbeddings);
        adapter.Fingerprint = anyBase ? null : fingerprint;
        return adapter;
    }

    // One value that is no number makes every answer empty, in whatever serves the adapter.
    private static void RequireFinite(SafetensorsFile weights)
    {
        foreach (var entry in weights.Tensors)
        {
            using var scope = NewDisposeScope();
            if (!TensorFiles.Read(weights, entry.Name).to(float32).isfinite().all().ToBoolean())
            {
                throw new InvalidDataException($"{weights.Location}: {entry.Name} has values that are not numbers (NaN or infinity); the training that wrote it went wrong, so take an earlier checkpoint.");
            }
        }
    }

    /// <summary>The chat template that an adapter's folder holds, since it was trained with another one than its base's; null where there is none.</summary>
    /// <param name="path">The folder.</param>
    public static string? ChatTemplate(string path) =>
        Path.Combine(AdapterFolder.Find(path) ?? path, TemplateName) is var file && File.Exists(file) ? File.ReadAllText(file) : null;

    /// <summary>Whether an adapter can only be read, merged and written beside its base's values, and not on an outline
    /// (<see cref="ModelLoader.LoadMeta"/>): it starts from them, goes on from them, or holds them.</summary>
    /// <param name="path">The adapter's folder.</param>
    /// <exception cref="InvalidDataException">The adapter is of another kind.</exception>
    public static bool NeedsBaseValues(string path)
    {
        var folder = AdapterFolder.Open(path);
        var config = PeftConfig.Read(folder.Config, Path.Combine(folder.FolderPath, AdapterFolder.ConfigName), out _);
        using var weights = folder.OpenWeights();
        return config.Init == LoraInit.Pissa || config.Bias != BiasTraining.None || config.ModulesToSave.Count > 0
            || weights.Tensors.Any(static t => t.Name.Split('.').Any(AdapterTargets.IsEmbedding));
    }

    /// <summary>Writes an adapter's two files into a folder. What was read from a folder is written with that folder's settings.</summary>
    /// <param name="adapter">The adapter.</param>
    /// <param name="path">The folder; it is made where it is missing.</param>
    /// <param name="baseModel">What the file names as the base model, its folder or its name on the Hub, where the adapter does not know one.</param>
    /// <exception cref="IOException">The folder cannot be written.</exception>
    public static void Save(LoraAdapter adapter, string path, string? baseModel)
    {
        ArgumentNullException.ThrowIfNull(adapter);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        AdapterFolder.Write(
            path,
            PeftConfig.Write(adapter.Config, adapter.Parts.Where(static p => p is LoraLayer or EmbeddingLora).Select(static p => p.Module), baseModel, adapter.Source),
            [.. Tensors(adapter).Select(static t => TensorFiles.ToWrite(Prefix + t.Name, t.Tensor))],
            adapter.Fingerprint is { } fingerprint ? new Dictionary<string, string> { [BaseFingerprint.Key] = fingerprint.ToString() } : null);
    }

    /// <summary>Reads back what <see cref="Save"/> wrote of the same adapter, into its parameters.</summary>
    /// <param name="adapter">The adapter.</param>
    /// <param name="path">The folder.</param>
    /// <exception cref="InvalidDataException">The folder holds another adapter.</exception>
    public static void Restore(LoraAdapter adapter, string path)
    {
        ArgumentNullException.ThrowIfNull(adapter);
        using var weights = AdapterFolder.Open(path).OpenWeights();
        using var nothing = no_grad();
        foreach (var part in adapter.Parts)
        {
            part.Restore(name => TensorFiles.Read(weights, Prefix + name));
        }
    }

    /// <summary>What a folder holds of an adapter, by names without PEFT's prefix; tensors that are made for it are in the dispose scope that is open.</summary>
    public static IReadOnlyList<(string Name, Tensor Tensor)> Tensors(LoraAdapter adapter)
    {
        ArgumentNullException.ThrowIfNull(adapter);
        var tensors = adapter.Parts.SelectMany(static p => p.FileTensors()).ToList();
        if (adapter.SavesAdaptedEmbeddings)
        {
            tensors.AddRange(adapter.Parts.Where(static p => AdapterTargets.IsEmbedding(p.Module)).Select(static p => (Part: p, Weight: Weight(p)))
                .Where(static p => p.Weight is not null).Select(static p => ($"{p.Part.Module}.base_layer.weight", p.Weight!)));
        }

        return tensors;
    }

    private static string Named(System.Text.Json.Nodes.JsonObject config) => config["base_model_name_or_path"]?.ToString() is { Length: > 0 } name ? $" ({name})" : "";

    // The weight that an update of an embedding or head stands on.
    private static Tensor? Weight(AdapterPart part) => part switch
    {
        EmbeddingLora embedding => embedding.Target.Weight,
        LoraLayer layer => layer.Target.Weight,
        TiedHeadLora head => head.Target.Weight,
        _ => null,
    };
}
