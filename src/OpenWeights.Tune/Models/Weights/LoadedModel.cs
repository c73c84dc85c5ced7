using OpenWeights.Formats.HuggingFace;

namespace OpenWeights.Tune.Models.Weights;

/// <summary>A model with the folder it was loaded from.</summary>
internal sealed class LoadedModel : IDisposable
{
    internal LoadedModel(ModelFolder folder, CausalLanguageModel model, IReadOnlyList<string> warnings)
    {
        Folder = folder;
        Model = model;
        model.Stack.IsBidirectional = EmbeddingFiles.IsBidirectional(folder.Config);
        Embedding = EmbeddingFiles.Find(folder.FolderPath);
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

    /// <summary>How the model embeds texts, which is saved with the results; null for a model of another use.</summary>
    public EmbeddingSettings? Embedding
    {
        get;
        set
        {
            field = value;
            Model.Stack.IsBidirectional = value?.IsBidirectional ?? Model.Stack.IsBidirectional;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => Model.Dispose();
}
