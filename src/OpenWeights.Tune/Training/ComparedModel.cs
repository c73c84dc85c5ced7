using System.Globalization;
using System.Security.Cryptography;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Quantization;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training;

/// <summary>The files of the model that a run compares its policy with: the reference, or the teacher.</summary>
/// <param name="Setting">The setting that names it.</param>
/// <param name="Folder">Folder of the model.</param>
/// <param name="Adapter">Folder of an adapter on it; null for none.</param>
/// <param name="Quantization">Quantization as it is loaded; null for none.</param>
/// <param name="KeepsPacked">Whether weights that are quantized already are held so.</param>
internal sealed record ComparedModel(string Setting, string Folder, string? Adapter, QuantizationSettings? Quantization, bool KeepsPacked)
{
    // Of a file, so many blocks are read.
    private const int Blocks = 512;
    private const int BlockBytes = 1 << 15;

    private bool AnyBase { get; init; }

    /// <summary>The model of a run.</summary>
    /// <param name="config">The run, whose objective needs one.</param>
    /// <param name="modelPath">Folder of the base model.</param>
    /// <param name="settingsAlone">Whether its configs are enough, and its weights are not downloaded.</param>
    /// <exception cref="InvalidDataException">It cannot be found.</exception>
    /// <exception cref="IOException">It cannot be read or downloaded.</exception>
    internal static ComparedModel Of(RunConfig config, string modelPath, bool settingsAlone = false)
    {
        var objective = config.Objective;
        if (objective.Type == "distill")
        {
            return Named("objective.teacher", objective.Teacher!, settingsAlone) with { Quantization = QuantizationSettings.Of(objective.TeacherQuantization) };
        }

        return objective.Reference is "base" or "start"
            ? new ComparedModel("objective.reference", modelPath, objective.Reference == "start" ? config.Adapter?.Path : null, TrainedModel.Quantization(config.Quantization), config.Model.KeepsQuantized) { AnyBase = config.Adapter?.AnyBase == true }
            : Named("objective.reference", objective.Reference, settingsAlone);
    }

    /// <summary>Loads the model; it is never trained.</summary>
    /// <param name="dtype">Data type of the computation.</param>
    /// <param name="devices">The device, or several.</param>
    /// <exception cref="InvalidDataException">The model or its adapter is invalid.</exception>
    internal ModelReference Load(ScalarType dtype, IReadOnlyList<Device> devices)
    {
        var loaded = ModelLoader.LoadOnto(Folder, dtype, devices, Quantization, KeepsPacked);
        try
        {
            return new ModelReference(loaded, Adapter is null ? null : PeftFolder.Load(loaded.Model, Adapter, anyBase: AnyBase));
        }
        catch
        {
            loaded.Dispose();
            throw;
        }
    }

    /// <summary>The model of a run if it is in memory while training; null if it is the trained model itself, or computed before.</summary>
    /// <param name="config">The run.</param>
    /// <param name="modelPath">Folder of the base model.</param>
    /// <param name="settingsAlone">Whether its configs are enough.</param>
    internal static ComparedModel? Held(RunConfig config, string modelPath, bool settingsAlone) =>
        !ObjectiveKinds.Of(config.Objective).ComparesWithReference(config.Objective) || LogProbCache.Serves(config.Objective)
            || (config is { Adapter: not null, Objective: { Type: not "distill", Reference: "base" or "start" } })
            ? null : Of(config, modelPath, settingsAlone);

    /// <summary>Number of tokens that it knows.</summary>
    internal int VocabularySize => ModelLoader.ReadConfig(ModelFolder.Open(Folder)).VocabularySize;

    /// <summary>Bytes of its weights.</summary>
    /// <param name="dtype">Data type of the computation.</param>
    /// <param name="device">The device.</param>
    internal long Bytes(ScalarType dtype, Device device)
    {
        var folder = ModelFolder.Open(Folder);
        using var shapes = ModelLoader.Shapes(folder, ModelLoader.ReadConfig(folder), dtype, device, Quantization, KeepsPacked);
        return shapes.Model.ParameterBytes;
    }

    /// <summary>A hash of the model's files: their configs, names and sizes, and evenly spaced parts of their weights.</summary>
    internal string Fingerprint()
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        IEnumerable<string> files = [.. ModelFiles(Folder), .. AdapterFiles(Adapter)];
        hash.AppendData(System.Text.Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{Quantization} {KeepsPacked}\n")));
        foreach (var file in files)
        {
            Add(hash, file);
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    /// <summary>Files of a model's config and weights.</summary>
    internal static IReadOnlyList<string> ModelFiles(string folder)
    {
        using var weights = ModelFolder.Open(folder).OpenWeights();
        return [.. ((string[])[Path.Combine(folder, ModelFolder.ConfigName)]).Where(File.Exists), .. weights.FilePaths];
    }

    /// <summary>Files of an adapter; none for null.</summary>
    internal static IReadOnlyList<string> AdapterFiles(string? adapter) =>
        adapter is null ? [] : [.. Directory.GetFiles(AdapterFolder.Find(adapter) ?? adapter, "adapter_*").Order(StringComparer.Ordinal)];

    private static void Add(IncrementalHash hash, string path)
    {
        using var file = File.OpenHandle(path);
        var (length, block) = (RandomAccess.GetLength(file), new byte[BlockBytes]);
        var step = Math.Max(BlockBytes, length / Blocks);
        hash.AppendData(BitConverter.GetBytes(length));
        for (var at = 0L; at < length; at += step)
        {
            hash.AppendData(block.AsSpan(0, RandomAccess.Read(file, block, at)));
        }
    }

    // A run that trained an adapter is its base with the adapter.
    private static ComparedModel Named(string setting, string name, bool settingsAlone)
    {
        var (model, adapter) = ModelPath.WithAdapter(name);
        return new ComparedModel(setting, settingsAlone ? ModelPath.ResolveSettings(model) : ModelPath.Resolve(model), adapter, null, KeepsPacked: true);
    }
}
