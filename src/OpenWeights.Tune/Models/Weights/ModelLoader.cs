using OpenWeights.Formats.Families;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Models.Families;
using OpenWeights.Tune.Quantization;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models.Weights;

/// <summary>Builds a model from a Hugging Face folder.</summary>
public static class ModelLoader
{
    /// <summary>Reads the config, checks all weights against it, and reads them into place.</summary>
    /// <param name="path">The model's folder.</param>
    /// <param name="dtype">The dtype to compute in; where null, the checkpoint's (see <see cref="StoredDType"/>).</param>
    /// <param name="device">Where the model is to lie.</param>
    /// <param name="quantization">How linear layers below the head are held quantised; null for not. Each is quantised as it is read.</param>
    /// <exception cref="InvalidDataException">The config or a tensor is wrong or missing; the message lists all of them.</exception>
    /// <exception cref="IOException">The folder or a file is missing or cannot be read.</exception>
    public static LoadedModel Load(string path, ScalarType? dtype, Device device, QuantizationSettings? quantization = null)
    {
        var folder = ModelFolder.Open(path);
        using var weights = folder.OpenWeights();
        var config = Check(folder, weights, out var warnings);
        var computed = dtype ?? ComputeDType(StoredDType(weights), device, config.ModelType);
        Devices.ChooseProducts(device, computed);
        using var nothing = no_grad();
        return new LoadedModel(folder, new CausalLanguageModel(config, new CheckpointWeightSource(weights, computed, device, quantization)) { SourceFolder = folder.FolderPath }, warnings);
    }

    /// <summary>A model without its weights, after a check of the checkpoint against the config: the layers and their shapes, in hardly any memory.</summary>
    /// <param name="path">The model's folder.</param>
    /// <exception cref="InvalidDataException">As for <see cref="Load"/>.</exception>
    public static LoadedModel LoadMeta(string path)
    {
        var folder = ModelFolder.Open(path);
        using var weights = folder.OpenWeights();
        var config = Check(folder, weights, out var warnings);
        using var nothing = no_grad();
        return new LoadedModel(folder, new CausalLanguageModel(config, new MetaWeightSource()) { SourceFolder = folder.FolderPath, IsMeta = true }, warnings);
    }

    /// <summary>A model without its weights, which need not be there: config.json says all that is counted.</summary>
    /// <param name="folder">The model's folder.</param>
    /// <param name="config">The decoder that it asks for.</param>
    /// <param name="dtype">The dtype that the model would be computed in.</param>
    /// <param name="device">Where it would lie.</param>
    /// <param name="quantization">How linear layers below the head would be held quantised; null for not.</param>
    internal static LoadedModel Shapes(ModelFolder folder, DecoderConfig config, ScalarType dtype, Device device, QuantizationSettings? quantization)
    {
        using var nothing = no_grad();
        return new LoadedModel(folder, new CausalLanguageModel(config, new MetaWeightSource(dtype, device, quantization)) { SourceFolder = folder.FolderPath, IsMeta = true }, []);
    }

    /// <summary>The dtype that a model is computed in where nothing is said of it: its weights', or where they are not here config.json's.</summary>
    /// <param name="folder">The model's folder.</param>
    /// <param name="device">Where it is to lie.</param>
    /// <exception cref="InvalidDataException">The weights that are there cannot be read.</exception>
    internal static ScalarType AutomaticDType(ModelFolder folder, Device device)
    {
        var family = folder.Config["model_type"]?.ToString();
        CheckpointWeights weights;
        try
        {
            weights = folder.OpenWeights();
        }
        catch (FileNotFoundException)
        {
            var named = (folder.Config["dtype"] ?? folder.Config["torch_dtype"])?.ToString();
            return ComputeDType(Devices.DType(named ?? "float32") ?? float32, device, family);
        }

        using (weights)
        {
            return ComputeDType(StoredDType(weights), device, family);
        }
    }

    /// <summary>The decoder that a folder's config.json asks for.</summary>
    /// <exception cref="InvalidDataException">The family or a setting is not known or wrong.</exception>
    public static DecoderConfig ReadConfig(ModelFolder folder)
    {
        ArgumentNullException.ThrowIfNull(folder);
        return FamilyRegistry.Read(folder.Config, Path.Combine(folder.FolderPath, ModelFolder.ConfigName));
    }

    /// <summary>The decoder that a folder's config.json asks for, as its weights bear it out.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="weights">Its weights.</param>
    /// <param name="warnings">What is not as config.json says.</param>
    /// <exception cref="InvalidDataException">The config is wrong, or the weights are not those that it asks for.</exception>
    internal static DecoderConfig Check(ModelFolder folder, CheckpointWeights weights, out IReadOnlyList<string> warnings)
    {
        // The check makes the model's layers, and is what comes first in whatever reads a model.
        TorchSupplier.Require();
        var config = ReadConfig(folder);
        var untied = config.TiedEmbeddings && HeadTie.IsBroken(weights);
        warnings = untied ? [$"{folder.FolderPath}: {HeadTie.Warning}"] : [];
        config = untied ? config with { TiedEmbeddings = false } : config;
        WeightCheck.Run(weights, config);
        return config;
    }

    /// <summary>The dtype that most bytes of a checkpoint are stored in.</summary>
    public static ScalarType StoredDType(ITensorSource weights)
    {
        ArgumentNullException.ThrowIfNull(weights);
        return weights.Tensors.GroupBy(TensorFiles.ToTorch).MaxBy(static g => g.Sum(static t => t.ByteLength))?.Key ?? float32;
    }

    /// <summary>
    /// The dtype that stored weights are computed in. Float16 is a storage format on a CPU: most of libtorch's CPU kernels have no float16, so
    /// it is computed in float32 there. GPUs before Ampere have no bfloat16: there it is float16, or float32 for families that overflow in it.
    /// </summary>
    /// <param name="stored">The dtype that they are stored in.</param>
    /// <param name="device">Where they are to lie.</param>
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
