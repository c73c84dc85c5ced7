using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.Gguf.Families;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Json;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Export.Gguf;

/// <summary>Writes a model as one GGUF file, as llama.cpp reads it, with an adapter merged in or without; a tensor at a time.</summary>
public static class GgufExport
{
    // Written by old versions of transformers beside the weights, and computed from the config by all readers.
    private static readonly string[] s_derived = ["rotary_emb.inv_freq", "attn.masked_bias", "attn.bias"];

    /// <summary>Writes the file whole, or not at all.</summary>
    /// <param name="folder">The base model.</param>
    /// <param name="adapter">The adapter to merge in, in float32; null for none.</param>
    /// <param name="path">The file.</param>
    /// <param name="preset">The types of the tensors.</param>
    /// <exception cref="InvalidDataException">llama.cpp has no such model or tokenizer; the message says what stands in the way.</exception>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public static void Write(ModelFolder folder, LoraAdapter? adapter, string path, GgufPreset preset)
    {
        ArgumentNullException.ThrowIfNull(folder);
        ArgumentNullException.ThrowIfNull(preset);
        var configPath = Path.Combine(folder.FolderPath, ModelFolder.ConfigName);
        var config = new ConfigJson(folder.Config, configPath);
        var family = GgufFamilies.OfModelType(config.Text("model_type"), configPath);
        using var weights = folder.OpenWeights();
        var metadata = new GgufMetadata(path);
        WriteGeneral(folder, family, preset, metadata);
        family.WriteSettings(config, metadata);
        VocabularySection.Write(folder, checked((int)weights.GetTensor("model.embed_tokens.weight").Shape[0]), metadata);
        if (metadata.Text("tokenizer.ggml.model") == "no_vocab" && !metadata.Contains($"{family.Architecture}.vocab_size"))
        {
            metadata.Add($"{family.Architecture}.vocab_size", (uint)config.Int("vocab_size"));
        }

        GgufWriter.Write(path, metadata, [.. Tensors(new Source(weights, config, family, adapter), preset)]);
    }

    /// <summary>The preset that keeps a model's own type.</summary>
    /// <param name="folder">The model.</param>
    public static GgufPreset OwnPreset(ModelFolder folder)
    {
        ArgumentNullException.ThrowIfNull(folder);
        using var weights = folder.OpenWeights();
        return GgufPreset.Of(Models.ModelLoader.StoredDType(weights) switch
        {
            ScalarType.BFloat16 => "bf16",
            ScalarType.Float16 => "f16",
            _ => "f32",
        });
    }

    private static void WriteGeneral(ModelFolder folder, GgufFamily family, GgufPreset preset, GgufMetadata metadata)
    {
        metadata.Add("general.architecture", family.Architecture);
        metadata.Add("general.type", "model");
        metadata.Add("general.name", Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(folder.FolderPath))));
        if (ModelCard.LicenseOf(folder.FolderPath) is { } license)
        {
            metadata.Add("general.license", license);
        }

        metadata.Add("general.file_type", preset.FileType);
        metadata.Add("general.quantization_version", 2u);
    }

    private static IEnumerable<GgufTensorToWrite> Tensors(Source source, GgufPreset preset)
    {
        var (weights, config, family, adapter) = source;
        var updates = adapter?.Layers.ToDictionary(static l => $"{l.Module}.weight") ?? [];
        var tied = IsTied(config, family, weights);
        var (layers, heads) = (config.Int("num_hidden_layers"), config.Int("num_attention_heads"));
        var keyValueHeads = config.Int("num_key_value_heads", heads);
        if (RopeScaling.Factors(config, GgufFamily.HeadLength(config)) is { } factors)
        {
            yield return new GgufTensorToWrite(RopeScaling.FactorsName, GgufType.F32, [factors.Length], stream => stream.Write(System.Runtime.InteropServices.MemoryMarshal.AsBytes<float>(factors)));
        }

        foreach (var entry in weights.Tensors)
        {
            if (Array.Exists(s_derived, d => entry.Name.EndsWith(d, StringComparison.Ordinal)) || (tied && entry.Name == "lm_head.weight"))
            {
                continue;
            }

            if (!family.TryToGguf(entry.Name, out var name))
            {
                throw new InvalidDataException($"{entry.FilePath}: llama.cpp's architecture {family.Architecture} has no place for the tensor {entry.Name}.");
            }

            var type = preset.TypeOf(name, entry.Shape, layers, tied);
            var rows = new TensorRows(entry.Shape, type)
            {
                PairedHeads = family.PairedHeads(name, heads, keyValueHeads),
                Offset = GgufFamily.IsNorm(name) ? family.NormOffset : 0,
            };
            yield return new GgufTensorToWrite(name, type, entry.Shape, stream => WriteTensor(stream, rows, weights, entry, updates.GetValueOrDefault(entry.Name)));
        }
    }

    private static bool IsTied(ConfigJson config, GgufFamily family, CheckpointWeights weights) =>
        (config.Has("tie_word_embeddings") ? config.Flag("tie_word_embeddings") : family.TiedByDefault) || !weights.TryGetTensor("lm_head.weight", out _);

    private static void WriteTensor(Stream stream, TensorRows rows, CheckpointWeights weights, TensorEntry entry, LoraLayer? update)
    {
        if (update is null)
        {
            rows.Write(stream, weights, entry);
            return;
        }

        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        rows.Write(stream, TensorFiles.Read(weights, entry.Name, float32).Plus(update.Delta().cpu()));
    }

    private sealed record Source(CheckpointWeights Weights, ConfigJson Config, GgufFamily Family, LoraAdapter? Adapter);
}
