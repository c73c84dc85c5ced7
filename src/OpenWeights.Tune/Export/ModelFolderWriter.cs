using System.Text.Json.Nodes;
using OpenWeights.Formats.Files;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Json;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Export;

/// <summary>Writes Hugging Face model folders.</summary>
public static class ModelFolderWriter
{
    /// <summary>Writes a model that is in memory, with the companions of the folder that it came from.</summary>
    /// <param name="loaded">The model.</param>
    /// <param name="folder">The folder; it is made where it is missing.</param>
    /// <exception cref="IOException">The folder cannot be written.</exception>
    public static void Write(LoadedModel loaded, string folder)
    {
        ArgumentNullException.ThrowIfNull(loaded);
        _ = Directory.CreateDirectory(folder);
        _ = CheckpointWriter.Write(folder, [.. loaded.Model.named_parameters().Select(static p => TensorFiles.ToWrite(p.name, p.parameter))]);
        WriteCompanions(loaded.Folder, folder, loaded.Model.DType, HeadTie.WasBroken(loaded), EndTokens.OfTurn(loaded), loaded.ChatTemplate);
    }

    /// <summary>Writes config.json in the dtype of the weights, and carries the tokenizer's and the other files along unchanged.</summary>
    /// <param name="source">The folder that the model came from.</param>
    /// <param name="folder">The folder that is written.</param>
    /// <param name="dtype">The dtype of the weights that were written.</param>
    /// <param name="unties">Whether the embedding and the head are two weights, whatever the source's config says.</param>
    /// <param name="turnEnd">A token that ends an answer whether or not the source's configs declare it; null for none.</param>
    /// <param name="chatTemplate">The chat template in the place of the source's; null for that.</param>
    internal static void WriteCompanions(ModelFolder source, string folder, ScalarType dtype, bool unties, int? turnEnd, string? chatTemplate)
    {
        var config = source.Config.DeepClone().AsObject();
        config[config.ContainsKey("dtype") ? "dtype" : "torch_dtype"] = dtype.ToString().ToLowerInvariant();
        if (unties)
        {
            config["tie_word_embeddings"] = false;
        }

        AtomicFile.WriteText(Path.Combine(folder, ModelFolder.ConfigName), PythonJson.Serialize(config, indent: 2, sortKeys: false) + "\n");
        _ = source.CopyCompanions(folder);
        if (chatTemplate is not null)
        {
            // It counts before all other places that templates are kept in.
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
