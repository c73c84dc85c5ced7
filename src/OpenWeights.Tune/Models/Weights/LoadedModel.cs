using OpenWeights.Formats.HuggingFace;

namespace OpenWeights.Tune.Models.Weights;

/// <summary>A model with the folder it was loaded from.</summary>
public sealed class LoadedModel : IDisposable
{
    internal LoadedModel(ModelFolder folder, CausalLanguageModel model, IReadOnlyList<string> warnings)
    {
        Folder = folder;
        Model = model;
        Warnings = warnings;
    }

    /// <summary>The folder with the configs and the tokenizer files.</summary>
    public ModelFolder Folder { get; }

    /// <summary>The model.</summary>
    public CausalLanguageModel Model { get; }

    /// <summary>Warnings about the checkpoint.</summary>
    public IReadOnlyList<string> Warnings { get; }

    /// <summary>A chat template that replaces the folder's and is saved with the results; null for the folder's.</summary>
    public string? ChatTemplate { get; set; }

    /// <inheritdoc/>
    public void Dispose() => Model.Dispose();
}
