using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>LoRA adapters from and to the folders that PEFT reads and writes.</summary>
public static class PeftFolder
{
    /// <summary>What PEFT puts before the names of the base's modules.</summary>
    internal const string Prefix = "base_model.model.";

    /// <summary>Reads an adapter and puts it on a model.</summary>
    /// <param name="model">The adapter's base.</param>
    /// <param name="path">The adapter's folder, a run's, or a checkpoint's.</param>
    /// <param name="warn">Is told of settings that are not known, and of what the file lacks; null for nobody.</param>
    /// <exception cref="InvalidDataException">The adapter is of another kind, or does not fit the model; all tensors that do not fit are listed.</exception>
    public static LoraAdapter Load(CausalLanguageModel model, string path, Action<string>? warn = null)
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
        PeftFileCheck.Run(model, config, weights, warn);
        var savesEmbeddings = weights.Tensors.Any(static t => t.Name.EndsWith(".base_layer.weight", StringComparison.Ordinal));
        return LoraAdapter.Attach(model, config, new FileWeights(model, config, weights), folder.Config.DeepClone().AsObject(), savesEmbeddings);
    }

    /// <summary>Whether an adapter can only be read, merged and written beside its base's values, and not on an outline
    /// (<see cref="ModelLoader.Outline"/>): it starts from them, goes on from them, or holds them.</summary>
    /// <param name="path">The adapter's folder.</param>
    /// <exception cref="InvalidDataException">The adapter is of another kind.</exception>
    public static bool NeedsBaseValues(string path)
    {
        var folder = AdapterFolder.Open(path);
        var config = PeftConfig.Read(folder.Config, Path.Combine(folder.FolderPath, AdapterFolder.ConfigName), out _);
        using var weights = folder.OpenWeights();
        return config.Start == LoraStart.Pissa || config.Bias != BiasTraining.None || config.ModulesToSave.Count > 0
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
            [.. Tensors(adapter).Select(static t => TensorFiles.ToWrite(Prefix + t.Name, t.Tensor))]);
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

    // The weight that an update of an embedding or head stands on.
    private static Tensor? Weight(AdapterPart part) => part switch
    {
        EmbeddingLora embedding => embedding.Target.Weight,
        LoraLayer layer => layer.Target.Weight,
        _ => null,
    };
}
