using OpenWeights.Formats.HuggingFace;

namespace OpenWeights.Tune.Models;

/// <summary>A model folder and the model that was built from it.</summary>
public sealed class LoadedModel : IDisposable
{
    internal LoadedModel(ModelFolder folder, CausalLanguageModel model)
    {
        Folder = folder;
        Model = model;
    }

    /// <summary>The folder with the configs and the tokenizer's files.</summary>
    public ModelFolder Folder { get; }

    /// <summary>The model.</summary>
    public CausalLanguageModel Model { get; }

    /// <inheritdoc/>
    public void Dispose() => Model.Dispose();
}
