using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Generation;

namespace OpenWeights.Tune.Models;

/// <summary>A model folder and the model that was built from it.</summary>
public sealed class LoadedModel : IDisposable
{
    private readonly Lazy<int?> _turnEnd;

    internal LoadedModel(ModelFolder folder, CausalLanguageModel model, IReadOnlyList<string> warnings)
    {
        Folder = folder;
        Model = model;
        Warnings = warnings;
        _turnEnd = new Lazy<int?>(() => Tokenizer.IsIn(folder.FolderPath) ? EndTokens.OfTemplate(ChatTemplate is { } other ? Tokenizer.Load(folder.FolderPath).WithChatTemplate(other) : Tokenizer.Load(folder.FolderPath)) : null);
    }

    /// <summary>The folder with the configs and the tokenizer's files.</summary>
    public ModelFolder Folder { get; }

    /// <summary>The model.</summary>
    public CausalLanguageModel Model { get; }

    /// <summary>What is odd about the checkpoint, and how it was read.</summary>
    public IReadOnlyList<string> Warnings { get; }

    /// <summary>The chat template in the place of the folder's, which is saved with what is made of the model; null for the folder's.</summary>
    public string? ChatTemplate { get; set; }

    /// <summary>The token that ends a turn of the assistant in the model's chat template; null where there is none.</summary>
    internal int? TurnEnd => _turnEnd.Value;

    /// <inheritdoc/>
    public void Dispose() => Model.Dispose();
}
