using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.Gguf.Families;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Json;
using OpenWeights.Tune.Adapters;
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
    public static void Write(ModelFolder folder, PeftAdapter adapter, string path)
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
        var alpha = Alpha(adapter);
        var metadata = new GgufMetadata(path)
        {
            { "general.architecture", family.Architecture },
            { "general.type", "adapter" },
            { "adapter.type", "lora" },
            { "general.file_type", 0u },
            { "general.quantization_version", 2u },
            { "adapter.lora.alpha", (float)alpha },
        };
        if (adapter.Invocation is { } invocation)
        {
            metadata.Add("adapter.alora.invocation_tokens", invocation.Tokens.Select(static t => (uint)t).ToArray());
        }

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
    public static int RequireSame(ModelFolder folder, PeftAdapter adapter, string path)
    {
        ArgumentNullException.ThrowIfNull(folder);
        ArgumentNullException.ThrowIfNull(adapter);
        var config = new ConfigJson(folder.TextConfig, Path.Combine(folder.FolderPath, ModelFolder.ConfigName));
        var family = GgufFamilies.OfModelType(config.Text("model_type"), path);
        var alpha = Alpha(adapter);
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
    private static void RequirePlain(PeftAdapter adapter)
    {
        foreach (var part in adapter.Parts)
        {
            var more = part switch
            {
                LoraLayer { Magnitude: not null } => "has DoRA magnitudes (use_dora)",
                LoraLayer { OutputBias: not null } => "has a bias (lora_bias)",
                LoraLayer { HasStart: true } => "is initialized from the base's singular vectors (init_lora_weights: pissa and its like, kasa_config; --format peft converts it to a plain LoRA)",
                LoraLayer or ExpertLora => null,
                TrainableTokens => "trains rows of single tokens (trainable_token_indices)",
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

    private static double Alpha(PeftAdapter adapter) => adapter.Parts.Select(static p => p switch
    {
        LoraLayer layer => layer.Scale * layer.A.size(0),
        ExpertLora experts => experts.Scale * experts.Rank,
        _ => 0,
    }).First(static a => a != 0);

    private static IEnumerable<GgufTensorToWrite> Tensors(PeftAdapter adapter, ConfigJson config, GgufFamily family, double alpha)
    {
        var (heads, keyValueHeads) = (config.Int("num_attention_heads"), family.KeyValueHeads(config));
        foreach (var layer in adapter.Layers)
        {
            var weight = GgufExport.Usual($"{layer.Module}.weight", adapter.Base.Config.Names);
            var name = PlaceOf(family.Facts.Layout?.PartsOf(weight, [layer.Target.OutFeatures, layer.Target.InFeatures])[0].Name ?? weight, layer.Module, family).Name;
            if (family.ModulesWithoutLora.Any(refused => name.Contains($".{refused}.", StringComparison.Ordinal)))
            {
                throw new InvalidDataException($"llama.cpp ends with an error when it loads a LoRA file with {layer.Module} for the architecture {family.Architecture}; export with --format gguf, which merges the adapter.");
            }

            var factor = layer.Scale / (alpha / layer.A.size(0));
            var rank = layer.A.size(0);
            yield return Tensor($"{name}.lora_a", [rank, layer.Target.InFeatures], layer.Down, 1, pairedHeads: 0);
            yield return Tensor($"{name}.lora_b", [layer.Target.OutFeatures, rank], layer.Up, factor, family.PairedHeads(name, heads, keyValueHeads));
        }

        foreach (var experts in adapter.Parts.OfType<ExpertLora>())
        {
            foreach (var tensor in OfExperts(experts, GgufExport.Usual(experts.Parameter, adapter.Base.Config.Names), family, alpha))
            {
                yield return tensor;
            }
        }
    }

    // llama.cpp has gate and up apart: each gets A of both, and its own rows of B.
    private static IEnumerable<GgufTensorToWrite> OfExperts(ExpertLora experts, string parameter, GgufFamily family, double alpha)
    {
        var (count, rank, factor) = ((long)experts.Target.Count, experts.Rank, experts.Scale / (alpha / experts.Rank));
        var ((input, output), shape) = (experts.Target.UpdateFeatures, new[] { count, experts.Target.OutFeatures, experts.Target.InFeatures });
        var stored = (family.Facts.Layout?.PartsOf(parameter, shape) ?? []).Where(part => part.First < shape[1] * shape[2]).ToList();
        foreach (var part in stored)
        {
            var name = PlaceOf(part.Name, experts.Parameter, family).Name;
            var first = part.First / input;
            yield return Tensor($"{name}.lora_a", [count, rank, input], () => experts.A.view(count, rank, input), 1, pairedHeads: 0);
            yield return Tensor(
                $"{name}.lora_b", [count, part.Shape[0], rank], () => experts.B.view(output, rank, count).permute(2, 0, 1).narrow(1, first, part.Shape[0]), factor, pairedHeads: 0);
        }
    }

    private static GgufPlace PlaceOf(string tensor, string module, GgufFamily family) => family.TryToGguf(tensor, out var place)
        ? place
        : throw new InvalidDataException($"llama.cpp's architecture {family.Architecture} does not support an update of {module}; export with --format gguf, which merges the adapter.");

    private static GgufTensorToWrite Tensor(string name, long[] shape, Func<Tensor> values, double factor, int pairedHeads) => new(name, GgufType.F32, shape, stream =>
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        using TorchSharp.Scalar scale = factor;
        var written = values().detach().to(float32, CPU).contiguous();
        new TensorRows(shape, GgufType.F32) { PairedHeads = pairedHeads }.Write(stream, Math.Abs(factor - 1) < 1e-12 ? written : written.mul(scale));
    });
}
