using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.Gguf.Families;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Json;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Export.Gguf;

/// <summary>
/// Exports a LoRA adapter as a GGUF file that llama.cpp applies to a GGUF of the base model
/// (<see href="https://github.com/ggml-org/llama.cpp/blob/master/convert_lora_to_gguf.py"/>).
/// </summary>
public static class GgufLoraExport
{
    /// <summary>Writes the complete file, or nothing on failure. A and B are written in float32.</summary>
    /// <param name="folder">The base model.</param>
    /// <param name="adapter">The adapter.</param>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidDataException">llama.cpp cannot represent the adapter.</exception>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public static void Write(ModelFolder folder, LoraAdapter adapter, string path)
    {
        ArgumentNullException.ThrowIfNull(folder);
        ArgumentNullException.ThrowIfNull(adapter);
        var configPath = Path.Combine(folder.FolderPath, ModelFolder.ConfigName);
        var config = new ConfigJson(folder.TextConfig, configPath);
        var family = GgufFamilies.OfModelType(config.Text("model_type"), configPath);
        RequirePlain(adapter);
        if (adapter.Layers.Any(l => l.Module == adapter.Base.Config.Names.Head) && IsTied(folder, config, family))
        {
            throw new InvalidDataException("the adapter changes the output head, which is tied to the embedding in this model; llama.cpp's LoRA files cannot represent that. Export with --format gguf, which merges the adapter.");
        }

        // llama.cpp scales by alpha / r; for a layer with another scale the ratio is folded into B.
        var alpha = adapter.Layers[0].Scale * adapter.Layers[0].A.size(0);
        var metadata = new GgufMetadata(path)
        {
            { "general.architecture", family.Architecture },
            { "general.type", "adapter" },
            { "adapter.type", "lora" },
            { "general.file_type", 0u },
            { "general.quantization_version", 2u },
            { "adapter.lora.alpha", (float)alpha },
        };
        GeneralSection.WriteAdapter(folder, metadata);
        var tensors = Tensors(adapter, config, family, alpha).ToList();
        GgufWriter.Write(path, metadata, tensors);
    }

    /// <summary>Reads a written file back and compares every tensor with the adapter's.</summary>
    /// <param name="folder">The base model.</param>
    /// <param name="adapter">The adapter.</param>
    /// <param name="path">The file.</param>
    /// <returns>Number of tensors.</returns>
    /// <exception cref="IOException">A tensor differs from what was written.</exception>
    public static int RequireSame(ModelFolder folder, LoraAdapter adapter, string path)
    {
        ArgumentNullException.ThrowIfNull(folder);
        ArgumentNullException.ThrowIfNull(adapter);
        var config = new ConfigJson(folder.TextConfig, Path.Combine(folder.FolderPath, ModelFolder.ConfigName));
        var family = GgufFamilies.OfModelType(config.Text("model_type"), path);
        var alpha = adapter.Layers[0].Scale * adapter.Layers[0].A.size(0);
        using var file = GgufFile.Open(path);
        var expected = Tensors(adapter, config, family, alpha).ToList();
        foreach (var tensor in expected)
        {
            using var bytes = new MemoryStream();
            tensor.WriteTo(bytes);
            var written = new byte[file.GetTensor(tensor.Info.Name).ByteLength];
            file.ReadBytes(file.GetTensor(tensor.Info.Name), 0, written);
            if (!written.AsSpan().SequenceEqual(bytes.ToArray()))
            {
                throw new IOException($"{path}: tensor {tensor.Info.Name} differs from what was written; check the disk.");
            }
        }

        return file.Tensors.Count == expected.Count ? expected.Count : throw new IOException($"{path}: it has {file.Tensors.Count} tensors instead of {expected.Count}; check the disk.");
    }

    private static bool IsTied(ModelFolder folder, ConfigJson config, GgufFamily family)
    {
        using var weights = folder.OpenWeights();
        return !family.HasHead || GgufExport.IsTied(config, family, weights, GgufExport.Names(folder));
    }

    // llama.cpp would silently ignore other parts of an adapter.
    private static void RequirePlain(LoraAdapter adapter)
    {
        foreach (var part in adapter.Parts)
        {
            var more = part switch
            {
                LoraLayer { Magnitude: not null } => "has DoRA magnitudes (use_dora)",
                LoraLayer { OutputBias: not null } => "has a bias (lora_bias)",
                LoraLayer { HasStart: true } => "is initialized from the base's singular vectors (init_lora_weights: pissa; --format peft converts it to a plain LoRA)",
                LoraLayer => null,
                EmbeddingLora => "adapts an embedding",
                ReplacedWeight { Slot.Name: "bias" } => "is a trained bias (bias)",
                _ => "is a complete weight (modules_to_save, or an embedding in the file)",
            };
            if (more is not null)
            {
                throw new InvalidDataException($"llama.cpp's LoRA files support only low-rank updates of linear layers, but the adapter's part for {part.Module} {more}; export with --format gguf, which merges the adapter.");
            }
        }
    }

    private static IEnumerable<GgufTensorToWrite> Tensors(LoraAdapter adapter, ConfigJson config, GgufFamily family, double alpha)
    {
        var (heads, keyValueHeads) = (config.Int("num_attention_heads"), family.KeyValueHeads(config));
        foreach (var place in adapter.Layers.Select(layer => (Place: PlaceOf(layer, family, adapter.Base.Config.Names), Layer: layer)).GroupBy(static p => p.Place.Name))
        {
            var layers = place.OrderBy(static p => p.Place.Expert ?? 0).ToList();
            var isStack = layers[0].Place.Expert is not null;
            RequireWhole(layers, isStack ? family.Experts(config) : 1);
            var paired = family.PairedHeads(place.Key, heads, keyValueHeads);
            yield return Tensor($"{place.Key}.lora_a", isStack, [.. layers.Select(static p => (p.Layer.A, 1.0))], pairedHeads: 0);
            yield return Tensor($"{place.Key}.lora_b", isStack, [.. layers.Select(p => (p.Layer.B, p.Layer.Scale / (alpha / p.Layer.A.size(0))))], paired);
        }
    }

    private static GgufPlace PlaceOf(LoraLayer layer, GgufFamily family, DecoderNames names) => family.TryToGguf(GgufExport.Usual($"{layer.Module}.weight", names), out var place)
        ? place
        : throw new InvalidDataException($"llama.cpp's architecture {family.Architecture} does not support an update of {layer.Module}; export with --format gguf, which merges the adapter.");

    private static void RequireWhole(List<(GgufPlace Place, LoraLayer Layer)> layers, int count)
    {
        if (layers.Count != count || layers.Exists(p => p.Layer.A.size(0) != layers[0].Layer.A.size(0)))
        {
            throw new InvalidDataException($"llama.cpp's LoRA files need updates of equal rank for all {count} experts of a layer, but the adapter's for {layers[0].Place.Name} differ; export with --format gguf, which merges the adapter.");
        }
    }

    private static GgufTensorToWrite Tensor(string name, bool isStack, IReadOnlyList<(Tensor Values, double Factor)> parts, int pairedHeads)
    {
        var shape = parts[0].Values.shape;
        return new GgufTensorToWrite(name, GgufType.F32, isStack ? [parts.Count, .. shape] : shape, stream =>
        {
            using var nothing = no_grad();
            foreach (var (tensor, factor) in parts)
            {
                using var scope = NewDisposeScope();
                using TorchSharp.Scalar scale = factor;
                var values = tensor.detach().to(float32, CPU).contiguous();
                new TensorRows(shape, GgufType.F32) { PairedHeads = pairedHeads }.Write(stream, Math.Abs(factor - 1) < 1e-12 ? values : values.mul(scale));
            }
        });
    }
}
