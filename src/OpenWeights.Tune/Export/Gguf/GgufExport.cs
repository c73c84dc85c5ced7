using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.Gguf.Families;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Json;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Export.Gguf;

/// <summary>Writes a model as one GGUF file, as llama.cpp reads it, with adapters merged in or without; a tensor at a time.</summary>
public static class GgufExport
{
    // Written by old versions of transformers beside the weights, and computed from the config by all readers.
    private static readonly string[] s_derived = ["rotary_emb.inv_freq", "attn.masked_bias", "attn.bias"];

    /// <summary>Writes the file whole, or not at all.</summary>
    /// <param name="folder">The base model.</param>
    /// <param name="adapters">The adapters to merge in, in float32; null for none.</param>
    /// <param name="path">The file.</param>
    /// <param name="preset">The types of the tensors.</param>
    /// <param name="model">The base, whose values count where it holds them quantised; null where it does not.</param>
    /// <returns>Whether embedding and head, one weight in the base, became two.</returns>
    /// <exception cref="InvalidDataException">llama.cpp has no such model or tokenizer; the message says what stands in the way.</exception>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public static bool Write(ModelFolder folder, AdapterMix? adapters, string path, GgufPreset preset, CausalLanguageModel? model = null)
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
        VocabularySection.Write(folder, checked((int)weights.GetTensor(MergePlan.Embedding).Shape[0]), metadata);
        if (metadata.Text("tokenizer.ggml.model") == "no_vocab" && !metadata.Contains($"{family.Architecture}.vocab_size"))
        {
            metadata.Add($"{family.Architecture}.vocab_size", (uint)config.Int("vocab_size"));
        }

        using var none = new AdapterMix([]);
        var tied = IsTied(config, family, weights);
        var plan = new MergePlan(weights, tied, adapters ?? none, model);
        if (!(tied && !plan.Unties) && !family.HasHead)
        {
            throw new InvalidDataException($"llama.cpp's architecture {family.Architecture} takes the embedding for the output head, and {(plan.Unties ? "the adapter changes one of them without the other" : "the model has both")}; use the adapter or a merged folder (--format merged) elsewhere.");
        }

        GgufWriter.Write(path, metadata, [.. Tensors(new Source(weights, config, family, plan, tied && !plan.Unties), preset)]);
        return plan.Unties;
    }

    /// <summary>The preset that keeps a model's own type.</summary>
    /// <param name="folder">The model.</param>
    public static GgufPreset OwnPreset(ModelFolder folder)
    {
        ArgumentNullException.ThrowIfNull(folder);
        using var weights = folder.OpenWeights();
        return GgufPreset.Of(ModelLoader.StoredDType(weights) switch
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
        var (weights, config, family, plan, tied) = source;
        var (layers, heads) = (config.Int("num_hidden_layers"), config.Int("num_attention_heads"));
        var keyValueHeads = config.Int("num_key_value_heads", heads);
        if (RopeScaling.Factors(config, GgufFamily.HeadLength(config)) is { } factors)
        {
            yield return new GgufTensorToWrite(RopeScaling.FactorsName, GgufType.F32, [factors.Length], stream => stream.Write(System.Runtime.InteropServices.MemoryMarshal.AsBytes<float>(factors)));
        }

        foreach (var (tensor, entry) in plan.Tensors)
        {
            if (Array.Exists(s_derived, d => tensor.EndsWith(d, StringComparison.Ordinal)))
            {
                continue;
            }

            if (!family.TryToGguf(tensor, out var name))
            {
                throw new InvalidDataException($"{entry.FilePath}: llama.cpp's architecture {family.Architecture} has no place for the tensor {tensor}.");
            }

            var type = preset.TypeOf(name, entry.Shape, layers, tied);
            var rows = new TensorRows(entry.Shape, type)
            {
                PairedHeads = family.PairedHeads(name, heads, keyValueHeads),
                Offset = GgufFamily.IsNorm(name) ? family.NormOffset : 0,
            };
            yield return new GgufTensorToWrite(name, type, entry.Shape, stream => WriteTensor(stream, rows, weights, plan, (tensor, entry)));
        }
    }

    private static bool IsTied(ConfigJson config, GgufFamily family, CheckpointWeights weights) =>
        (config.Has("tie_word_embeddings") ? config.Flag("tie_word_embeddings") : family.TiedByDefault) || !weights.TryGetTensor(MergePlan.Head, out _);

    private static void WriteTensor(Stream stream, TensorRows rows, CheckpointWeights weights, MergePlan plan, (string Name, TensorEntry Source) tensor)
    {
        if (plan.IsAsStored(tensor.Name))
        {
            rows.Write(stream, weights, tensor.Source);
            return;
        }

        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        rows.Write(stream, plan.Values(tensor.Name, tensor.Source).contiguous());
    }

    private sealed record Source(CheckpointWeights Weights, ConfigJson Config, GgufFamily Family, MergePlan Plan, bool Tied);
}
