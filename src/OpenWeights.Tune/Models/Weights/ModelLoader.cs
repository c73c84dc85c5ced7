using OpenWeights.Formats.Families;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Quantized;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models.Families;
using OpenWeights.Tune.Quantization;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models.Weights;

/// <summary>Loads models from Hugging Face folders.</summary>
internal static class ModelLoader
{
    /// <summary>Reads the config, checks all tensors against it, and loads the weights.</summary>
    /// <param name="path">The model's folder.</param>
    /// <param name="dtype">Data type of the computation; null for the checkpoint's (see <see cref="StoredDType"/>).</param>
    /// <param name="device">The device.</param>
    /// <param name="quantization">Quantization of the linear layers other than the head; null for none. Each layer is quantized as it is
    /// loaded.</param>
    /// <param name="keepsPacked">Whether the linear layers of a checkpoint that is quantized already, other than the head, are held as they are
    /// and dequantized in computation; if not, all weights are dequantized to the data type as they are loaded.</param>
    /// <param name="labels">A head of labels instead of the one over the vocabulary; null for the head that the folder's model has.</param>
    /// <param name="keepsBlocks">Whether the matrices of a GGUF file that are in blocks of few bits, embedding and head included, are held as they are, on a
    /// CPU and without <paramref name="quantization"/>. Such a model is for inference and for adapters on its linear layers.</param>
    /// <exception cref="InvalidDataException">The config is invalid, or tensors are missing or do not match; the message lists all of
    /// them.</exception>
    /// <exception cref="IOException">The folder or a file is missing or cannot be read.</exception>
    public static LoadedModel Load(string path, ScalarType? dtype, Device device, QuantizationSettings? quantization = null, bool keepsPacked = true, LabelHead? labels = null, bool keepsBlocks = false) =>
        LoadGrown(path, dtype, device, quantization, keepsPacked, labels, rows: null, keepsBlocks);

    /// <summary>Loads a model whose layers are spread over several devices, by the bytes of their weights and the devices' free memory.</summary>
    /// <param name="path">The model's folder.</param>
    /// <param name="dtype">As for the other.</param>
    /// <param name="devices">The devices, in the order of the layers; with one it is as the other.</param>
    /// <param name="quantization">As for the other.</param>
    /// <param name="keepsPacked">As for the other.</param>
    /// <param name="labels">As for the other.</param>
    /// <param name="keepsBlocks">As for the other.</param>
    /// <exception cref="InvalidDataException">As for the other, or there are more devices than layers.</exception>
    public static LoadedModel LoadOnto(string path, ScalarType? dtype, IReadOnlyList<Device> devices, QuantizationSettings? quantization = null, bool keepsPacked = true, LabelHead? labels = null, bool keepsBlocks = false) =>
        LoadGrown(path, dtype, new ModelDevices(devices), quantization, keepsPacked, labels, rows: null, keepsBlocks);

    /// <summary>Loads a model with rows for new tokens.</summary>
    /// <param name="path">The model's folder.</param>
    /// <param name="dtype">As for the other.</param>
    /// <param name="devices">The device, or several.</param>
    /// <param name="quantization">As for the other.</param>
    /// <param name="keepsPacked">As for the other.</param>
    /// <param name="labels">As for the other.</param>
    /// <param name="rows">The rows; null for none.</param>
    /// <param name="keepsBlocks">As for the other.</param>
    internal static LoadedModel LoadGrown(string path, ScalarType? dtype, ModelDevices devices, QuantizationSettings? quantization, bool keepsPacked, LabelHead? labels, NewRows? rows, bool keepsBlocks = false)
    {
        var folder = ModelFolder.Open(path);
        using var weights = folder.OpenWeights();
        if (quantization is not null && keepsPacked && weights.Quantization is { } already)
        {
            throw new InvalidDataException($"{folder.FolderPath}: the weights are quantized already ({already}); leave quantization out, or set model.quantized: dequantize to quantize their values anew.");
        }

        var config = Check(folder, weights, out var warnings, labels);
        var computed = dtype ?? ComputeDType(StoredDType(weights), devices.Last, config.ModelType);
        Devices.ChooseProducts(devices.Last, computed);
        using var nothing = no_grad();
        var placement = devices.Place(config, () => Shapes(folder, config, computed, devices.Last, quantization, keepsPacked).Model);
        IWeightSource[] sources = [.. devices.All.Select(device => Source(weights, config, computed, device, quantization, keepsPacked, keepsBlocks))];
        var source = placement is not null ? new PlacedWeightSource(sources, placement) : devices.Weights is { } sharing ? new SharingWeightSource(sources[0], sharing) : sources[0];
        var model = rows is null ? new CausalLanguageModel(config, source) { SourceFolder = folder.FolderPath, Placement = placement }
            : new CausalLanguageModel(config with { VocabularySize = Math.Max(config.VocabularySize, rows.Vocabulary) }, new GrownWeightSource(source, config, rows)) { SourceFolder = folder.FolderPath, Placement = placement };
        if (devices.Weights is { } shared)
        {
            shared.Complete(model);
            model.Stack.LayerWeights = shared;
        }

        return new LoadedModel(folder, model, warnings);
    }

    /// <summary>
    /// A model with meta weights, after checking the checkpoint against the config: layers and shapes, in almost no memory.
    /// </summary>
    /// <param name="path">The model's folder.</param>
    /// <param name="labels">As for <see cref="Load"/>.</param>
    /// <exception cref="InvalidDataException">As for <see cref="Load"/>.</exception>
    public static LoadedModel LoadMeta(string path, LabelHead? labels = null)
    {
        var folder = ModelFolder.Open(path);
        using var weights = folder.OpenWeights();
        var config = Check(folder, weights, out var warnings, labels);
        using var nothing = no_grad();
        return new LoadedModel(folder, new CausalLanguageModel(config, new MetaWeightSource()) { SourceFolder = folder.FolderPath, IsMeta = true }, warnings);
    }

    /// <summary>A model with meta weights, from config.json alone; the weight files need not exist.</summary>
    /// <param name="folder">The model's folder.</param>
    /// <param name="config">Its decoder config.</param>
    /// <param name="dtype">Data type that the model would have.</param>
    /// <param name="device">Device that it would be on.</param>
    /// <param name="quantization">Quantization that the linear layers other than the head would have; null for none.</param>
    /// <param name="keepsPacked">As for <see cref="Load"/>.</param>
    internal static LoadedModel Shapes(ModelFolder folder, DecoderConfig config, ScalarType dtype, Device device, QuantizationSettings? quantization, bool keepsPacked = true)
    {
        using var nothing = no_grad();
        var packed = keepsPacked && quantization is null ? PackedBytes(folder) : null;
        return new LoadedModel(folder, new CausalLanguageModel(config, new MetaWeightSource(dtype, device, quantization, $"{config.OutputModule}.weight", packed)) { SourceFolder = folder.FolderPath, IsMeta = true }, []);
    }

    /// <summary>Default dtype of a model: that of its weights, or of config.json if there are none.</summary>
    /// <param name="folder">The model's folder.</param>
    /// <param name="device">The device.</param>
    /// <exception cref="InvalidDataException">The weights cannot be read.</exception>
    internal static ScalarType AutomaticDType(ModelFolder folder, Device device)
    {
        var family = folder.TextConfig["model_type"]?.ToString();
        CheckpointWeights weights;
        try
        {
            weights = folder.OpenWeights();
        }
        catch (FileNotFoundException)
        {
            var named = (folder.Config["dtype"] ?? folder.Config["torch_dtype"] ?? folder.TextConfig["dtype"] ?? folder.TextConfig["torch_dtype"])?.ToString();
            return ComputeDType(Devices.DType(named ?? "float32") ?? float32, device, family);
        }

        using (weights)
        {
            return ComputeDType(StoredDType(weights), device, family);
        }
    }

    /// <summary>The decoder config from a folder's config.json.</summary>
    /// <exception cref="InvalidDataException">The family is unknown, or a setting is unknown or invalid.</exception>
    public static DecoderConfig ReadConfig(ModelFolder folder)
    {
        ArgumentNullException.ThrowIfNull(folder);
        return FamilyRegistry.Read(folder.Config, Path.Combine(folder.FolderPath, ModelFolder.ConfigName));
    }

    /// <summary>Names of a model's modules; the usual ones for a family that is not known.</summary>
    /// <param name="folder">The model's folder.</param>
    /// <exception cref="InvalidDataException">A setting is unknown or invalid.</exception>
    internal static DecoderNames Names(ModelFolder folder) =>
        FamilyRegistry.Knows(folder.Config) ? ReadConfig(folder).Names : DecoderNames.Usual;

    /// <summary>The decoder config from a folder's config.json, checked against the weights.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="weights">Its weights.</param>
    /// <param name="warnings">Receives differences from config.json.</param>
    /// <param name="labels">As for <see cref="Load"/>.</param>
    /// <exception cref="InvalidDataException">The config is invalid, or the weights do not match it.</exception>
    internal static DecoderConfig Check(ModelFolder folder, CheckpointWeights weights, out IReadOnlyList<string> warnings, LabelHead? labels = null)
    {
        // The check makes the model's layers, and is what comes first in whatever reads a model.
        TorchSupplier.Require();
        var config = ReadConfig(folder);
        config = config.With(labels is null ? null : labels with { PadId = labels.PadId ?? config.Labels?.PadId ?? LabelHead.Pad(folder.TextConfig) });
        var untied = config.TiedEmbeddings && HeadTie.IsBroken(weights, config.Names);
        warnings = untied ? [$"{folder.FolderPath}: {HeadTie.Warning(weights, config.Names)}"] : [];
        config = untied ? config with { TiedEmbeddings = false } : config;
        WeightCheck.Run(weights, config);
        return config;
    }

    private static CheckpointWeightSource Source(CheckpointWeights weights, DecoderConfig config, ScalarType dtype, Device device, QuantizationSettings? quantization, bool keepsPacked, bool keepsBlocks) =>
        new(weights, dtype, device, quantization, keepsPacked, $"{config.OutputModule}.weight") { KeepsBlocks = keepsBlocks && CpuKernel.Enabled && device.type == TorchSharp.DeviceType.CPU && dtype is ScalarType.Float32 or ScalarType.BFloat16, NewHead = (config.InitializerRange, config.Labels?.Seed ?? 0) };

    /// <summary>The dtype of most bytes of a checkpoint; of a quantized one, of what is stored in full.</summary>
    public static ScalarType StoredDType(ITensorSource weights)
    {
        ArgumentNullException.ThrowIfNull(weights);
        var inFull = weights is CheckpointWeights { Quantization: not null } ? weights.Tensors.Where(static t => !t.IsQuantized) : weights.Tensors;
        return inFull.GroupBy(TensorFiles.ToTorch).MaxBy(static g => g.Sum(static t => t.ByteLength))?.Key ?? float32;
    }

    // Bytes of a weight that a checkpoint holds quantized, by its name and number of elements; where the files are not there yet, about.
    private static Func<string, long, long?>? PackedBytes(ModelFolder folder)
    {
        if (QuantizedModel.Of(folder.Config, folder.FolderPath) is not { } quantized)
        {
            return null;
        }

        try
        {
            using var weights = folder.OpenWeights();
            var held = weights.Tensors.Where(static t => t.IsQuantized).ToDictionary(static t => t.Name, t => PackedReading.Bytes(weights, t.Name), StringComparer.Ordinal);
            return (name, _) => held.GetValueOrDefault(name);
        }
        catch (FileNotFoundException)
        {
            return (_, elements) => (long)(elements * quantized.BitsPerWeight / 8);
        }
    }

    /// <summary>
    /// The dtype in which stored weights are computed. On the CPU float16 is only a storage format, since most of libtorch's kernels do not
    /// support it; it is computed in float32. GPUs before Ampere do not support bfloat16: it becomes float16, or float32 for families that
    /// overflow in float16.
    /// </summary>
    /// <param name="stored">Data type of the stored weights.</param>
    /// <param name="device">The device.</param>
    /// <param name="modelType">The family's model_type.</param>
    internal static ScalarType ComputeDType(ScalarType stored, Device device, string? modelType) => stored switch
    {
        ScalarType.Float16 when device.type == TorchSharp.DeviceType.CPU => float32,
        ScalarType.Float16 => float16,
        ScalarType.BFloat16 when !Devices.HasBFloat16(device) => FamilyTable.Find(modelType)?.OverflowsInFloat16 == true ? float32 : float16,
        ScalarType.BFloat16 => bfloat16,
        _ => float32,
    };
}
