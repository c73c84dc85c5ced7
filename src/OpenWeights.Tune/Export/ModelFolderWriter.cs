using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Files;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Json;
using OpenWeights.Formats.Quantized;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Export;

/// <summary>Writes Hugging Face model folders.</summary>
internal static class ModelFolderWriter
{
    private static readonly string[] s_dtypeKeys = ["dtype", "torch_dtype"];

    /// <summary>Saves a loaded model, with the other files of its source folder.</summary>
    /// <param name="loaded">The model.</param>
    /// <param name="folder">The folder; created if missing.</param>
    /// <exception cref="IOException">The folder cannot be written.</exception>
    public static void Write(LoadedModel loaded, string folder)
    {
        ArgumentNullException.ThrowIfNull(loaded);
        _ = Directory.CreateDirectory(folder);
        using var source = loaded.Folder.OpenWeights();
        _ = CheckpointWriter.Write(folder, [.. Tensors(loaded.Model, source)]);
        WriteCompanions(loaded.Folder, folder, loaded.Model.DType, HeadTie.WasBroken(loaded), EndTokens.OfTurn(loaded), loaded.ChatTemplate, Grown(loaded), labels: loaded.Model.Config.Labels, embedding: loaded.Embedding);
    }

    private static int? Grown(LoadedModel loaded) => ModelLoader.ReadConfig(loaded.Folder).VocabularySize is var own && own < loaded.Model.Config.VocabularySize ? loaded.Model.Config.VocabularySize : null;

    // As the source's files have them. Where those store some tensors in a wider type than most, they stay in it.
    private static IEnumerable<TensorToWrite> Tensors(CausalLanguageModel model, CheckpointWeights source)
    {
        var parameters = model.named_parameters().ToDictionary(static p => p.name, static p => p.parameter);
        var (usual, own) = (ModelLoader.StoredDType(source), model.DType);
        var writer = new LayoutWriter(source)
        {
            IsNew = parameters.ContainsKey,
            Values = Value,
            DType = entry => source.HeldBy(entry.Name).Any(p => parameters.ContainsKey(p.Module)) && !(own == usual && entry.DType == DType.F32 && !entry.IsQuantized) ? own : null,
            NewShape = name => parameters[name].shape,

            // A copy of a tied head would keep the values from before training; a head of labels stands in the place of the vocabulary's.
            IsLeftOut = name => (name == model.Config.Names.HeadWeight || (model.Config.Labels is not null && name == $"{model.Config.Names.Head}.bias")) && !parameters.ContainsKey(name),
        };
        return writer.Tensors().Concat(parameters.Where(p => !source.TryGetTensor(p.Key, out _)).Select(p => TensorFiles.ToWrite(source.StoredName(p.Key), p.Value.dtype, p.Value.shape, () => Value(p.Key))));

        Tensor Value(string name)
        {
            model.Stack.LayerWeights?.Show(name);
            return parameters[name];
        }
    }

    // The files of sentence-transformers; transformers reads the direction of attention from config.json.
    private static void WriteEmbedding(string folder, EmbeddingSettings embedding, JsonObject config, JsonObject text)
    {
        _ = config.Remove(EmbeddingFiles.CausalKey);
        if (embedding.IsBidirectional)
        {
            config[EmbeddingFiles.CausalKey] = false;
        }

        EmbeddingFiles.Write(folder, embedding, text["hidden_size"]!.GetValue<int>());
    }

    /// <summary>Writes config.json with the dtype of the weights, and copies the tokenizer and the other files unchanged.</summary>
    /// <param name="source">The folder of the source model.</param>
    /// <param name="folder">The folder to write.</param>
    /// <param name="dtype">Data type of the written weights.</param>
    /// <param name="unties">Whether embedding and output head are untied, regardless of the source's config.</param>
    /// <param name="turnEnd">A token that ends an answer but may be missing in the source's configs; null for none.</param>
    /// <param name="chatTemplate">A chat template that replaces the source's; null for the source's.</param>
    /// <param name="vocabulary">Number of tokens of the written weights; null for the source's.</param>
    /// <param name="quantization">quantization_config of the written weights; null for weights in full.</param>
    /// <param name="labels">The labels of the head; null for a language model.</param>
    /// <param name="embedding">How the model embeds texts; null for a model of another use.</param>
    /// <param name="own">The config.json to begin with; null for the source's.</param>
    internal static void WriteCompanions(
        ModelFolder source, string folder, ScalarType dtype, bool unties, int? turnEnd, string? chatTemplate, int? vocabulary = null, JsonObject? quantization = null, LabelHead? labels = null, EmbeddingSettings? embedding = null, JsonObject? own = null)
    {
        var config = (own ?? source.Config).DeepClone().AsObject();
        config[config.ContainsKey("dtype") ? "dtype" : "torch_dtype"] = dtype.ToString().ToLowerInvariant();
        var text = MultimodalFacts.TextKey(config) is { } key && FamilyTable.FindMultimodal(config) is not null ? config[key]!.AsObject() : null;
        foreach (var name in s_dtypeKeys.Where(name => text?[name] is not null))
        {
            text![name] = dtype.ToString().ToLowerInvariant();
        }

        if (vocabulary is { } tokens)
        {
            (text ?? config)["vocab_size"] = tokens;
        }

        labels?.Write(config);
        if (embedding is not null)
        {
            WriteEmbedding(folder, embedding, config, text ?? config);
        }

        // What the source says of its weights is not true of these.
        foreach (var setting in QuantizedModel.ConfigKeys)
        {
            _ = config.Remove(setting);
            _ = text?.Remove(setting);
        }

        if (quantization is not null)
        {
            config["quantization_config"] = quantization;
        }

        if (unties)
        {
            config["tie_word_embeddings"] = false;
            if (text?.ContainsKey("tie_word_embeddings") == true)
            {
                text["tie_word_embeddings"] = false;
            }
        }

        var json = PythonJson.Serialize(config, indent: 2, sortKeys: false);
        var isPlain = !File.ReadAllText(Path.Combine(source.FolderPath, ModelFolder.ConfigName)).Contains("__float__", StringComparison.Ordinal);
        AtomicFile.WriteText(Path.Combine(folder, ModelFolder.ConfigName), (isPlain ? JsonFile.WithPlainInfinity(json) : json) + "\n");
        _ = source.CopyCompanions(folder);
        if (chatTemplate is not null)
        {
            // This file takes precedence over all other places for templates.
            AtomicFile.WriteText(Path.Combine(folder, PeftFolder.TemplateName), chatTemplate);
            if (Directory.Exists(Path.Combine(folder, ModelFolder.TemplatesName)))
            {
                Directory.Delete(Path.Combine(folder, ModelFolder.TemplatesName), recursive: true);
            }
        }

        if (turnEnd is { } end && !source.EosTokenIds.Contains(end))
        {
            var generation = source.GenerationConfig?.DeepClone().AsObject() ?? [];
            generation["eos_token_id"] = new JsonArray([.. source.EosTokenIds.Append(end).Select(static id => (JsonNode)id)]);
            AtomicFile.WriteText(Path.Combine(folder, ModelFolder.GenerationConfigName), PythonJson.Serialize(generation, indent: 2, sortKeys: false) + "\n");
        }
    }
}
