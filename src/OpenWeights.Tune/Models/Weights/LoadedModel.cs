using OpenWeights.Formats.HuggingFace;

namespace OpenWeights.Tune.Models.Weights;

/// <summary>A model folder and the model that was built from it.</summary>
public sealed class LoadedModel : IDisposable
{
    internal LoadedModel(ModelFolder folder, CausalLanguageModel model, IReadOnlyList<string> warnings)
    {
        Folder = folder;
        Model = model;
        Warnings = warnings;
    }

    /// <summary>The folder with the configs and the tokenizer's files.</summary>
    public ModelFolder Folder { get; }

    /// <summary>The model.</summary>
    public CausalLanguageModel Model { get; }

    /// <summary>What is odd about the checkpoint, and how it was read.</summary>
    public IReadOnlyList<string> Warnings { get; }

    /// <summary>The chat template in the place of the folder's, which is saved with what is made of the model; null for the folder's.</summary>
    public string? ChatTemplate { get; set; }

    /// <inheritdoc/>
    public void Dispose() => Model.Dispose();
}
