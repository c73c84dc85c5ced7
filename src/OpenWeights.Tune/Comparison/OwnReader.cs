using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Evaluation;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Comparison;

/// <summary>This library as the reader of a model, including adapters on it and the files in its folder.</summary>
internal sealed class OwnReader : IModelReader
{
    private const int BatchSize = 4;
    private readonly CausalLanguageModel _model;
    private readonly string _folder;
    private readonly string? _chatTemplate;

    /// <summary>Creates a reader of a loaded model.</summary>
    /// <param name="model">The model, with its adapters.</param>
    /// <param name="folder">The folder with its tokenizer, chat template and settings.</param>
    /// <param name="chatTemplate">A chat template that replaces the folder's, such as an adapter's; null for the folder's.</param>
    public OwnReader(CausalLanguageModel model, ModelFolder folder, string? chatTemplate = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(folder);
        (_model, _folder, _chatTemplate) = (model, folder.FolderPath, chatTemplate);
        var room = ContextLimit.Of(model.Config);
        Room = (room.Tokens, room.Reason);
        var rows = Rows("assistant");
        Tokenizer = rows.HasTokenizer ? rows.Tokenizer : null;
        EndTokens = Tokenizer is null ? folder.EosTokenIds : Data.Tokens.EndTokens.Of(folder, Tokenizer);
    }

    /// <inheritdoc/>
    public string Name => "owt";

    /// <inheritdoc/>
    public (int Tokens, string Because)? Room { get; }

    /// <inheritdoc/>
    public ITokenizer? Tokenizer { get; }

    /// <inheritdoc/>
    public IReadOnlyList<int> EndTokens { get; }

    /// <inheritdoc/>
    public IReadOnlyList<string> Notes => [];

    /// <inheritdoc/>
    public RowTokenizer Rows(string trainOn) => new(_folder, trainOn, _chatTemplate);

    /// <inheritdoc/>
    public double Loss(IReadOnlyList<TokenRow> rows, CancellationToken stop) => Evaluator.Run(_model, rows, BatchSize, 0, stop).Loss;

    /// <inheritdoc/>
    public IReadOnlyList<IReadOnlyList<int>> Continue(IReadOnlyList<int[]> prompts, int maxNewTokens, CancellationToken stop) =>
        [.. new TextGenerator(_model, new GenerationOptions { MaxNewTokens = maxNewTokens, EndTokens = EndTokens }).Continue(prompts, stop: stop).Select(static g => g.OutputIds)];
}
