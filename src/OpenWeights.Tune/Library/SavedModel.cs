using OpenWeights.Formats.Files;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Export.Gguf;
using OpenWeights.Tune.Models.Weights;
using static TorchSharp.torch;

namespace OpenWeights.Tune;

/// <summary>Writes a whole model that is in memory.</summary>
internal static class SavedModel
{
    private const long ShardBytes = 5L << 30;
    private const string Model = "model";

    /// <summary>Writes a Hugging Face folder.</summary>
    /// <param name="loaded">The model.</param>
    /// <param name="adapter">The adapter that is merged; null for none.</param>
    /// <param name="isTrained">Whether the model's own weights differ from those of its files.</param>
    /// <param name="folder">The folder.</param>
    /// <param name="dtype">Data type of the weights; null for the model's own.</param>
    internal static void Merged(LoadedModel loaded, PeftAdapter? adapter, bool isTrained, string folder, ScalarType? dtype)
    {
        RequireOne(adapter, isTrained);
        if (adapter is not null)
        {
            _ = MergedExport.Write(loaded, adapter, folder, dtype, ShardBytes);
        }
        else if (isTrained && dtype is null)
        {
            AtomicFolder.Write(folder, path => ModelFolderWriter.Write(loaded, path));
        }
        else
        {
            using var trained = isTrained ? Whole(loaded) : null;
            MergedExport.Write(trained is null ? loaded.Folder : ModelFolder.Open(trained.Within(Model)), folder, dtype, ShardBytes);
        }
    }

    /// <summary>Writes a GGUF file.</summary>
    /// <param name="loaded">The model.</param>
    /// <param name="adapter">The adapter that is merged; null for none.</param>
    /// <param name="isTrained">Whether the model's own weights differ from those of its files.</param>
    /// <param name="file">The file.</param>
    /// <param name="type">How weights are packed.</param>
    internal static void Gguf(LoadedModel loaded, PeftAdapter? adapter, bool isTrained, string file, string type)
    {
        RequireOne(adapter, isTrained);
        var preset = GgufPreset.Of(type);
        using var trained = isTrained ? Whole(loaded) : null;
        using var merged = adapter is null ? null : new CombinedAdapter([(adapter, 1)]);
        _ = GgufExport.Write(trained is null ? loaded.Folder : ModelFolder.Open(trained.Within(Model)), merged, file, preset, trained is null ? loaded.Model : null, loaded.ChatTemplate);
    }

    // Weights are merged with those of the files.
    private static void RequireOne(PeftAdapter? adapter, bool isTrained)
    {
        if (adapter is not null && isTrained)
        {
            throw new InvalidOperationException("the model's own weights were trained before its adapter was added; save the model, load it from there, and add the adapter to it.");
        }
    }

    private static ScratchFolder Whole(LoadedModel loaded)
    {
        var scratch = new ScratchFolder();
        ModelFolderWriter.Write(loaded, scratch.Within(Model));
        return scratch;
    }
}
