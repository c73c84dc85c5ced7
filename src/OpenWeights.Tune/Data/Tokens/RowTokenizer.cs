using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tokenizers;

namespace OpenWeights.Tune.Data.Tokens;

/// <summary>Tokenizes rows, and maps trained ranges from characters to tokens.</summary>
internal sealed class RowTokenizer
{
    private readonly Lazy<ITokenizer> _tokenizer;
    private readonly Lazy<ChatRenderer?> _chat;
    private readonly Lazy<int?> _end;
    private volatile bool _endIsMissing;

    /// <summary>Creates a row tokenizer for a model.</summary>
    /// <param name="folder">The model's folder. Its tokenizer is loaded for the first text; tokenized rows need none.</param>
    /// <param name="trainOn">assistant, final, reasoning, completion or all, as in data.train_on.</param>
    /// <param name="chatTemplate">A chat template that replaces the folder's; null for the folder's.</param>
    /// <param name="chatTemplateName">What messages call that template, such as its file.</param>
    public RowTokenizer(string folder, string trainOn, string? chatTemplate = null, string chatTemplateName = "the chat template")
        : this(new Lazy<ITokenizer>(() => Load(folder, chatTemplate, chatTemplateName)), trainOn, folder)
    {
    }

    /// <summary>Creates a row tokenizer from a loaded tokenizer, possibly of another library.</summary>
    /// <param name="tokenizer">The tokenizer.</param>
    /// <param name="trainOn">assistant, final, reasoning, completion or all, as in data.train_on.</param>
    public RowTokenizer(ITokenizer tokenizer, string trainOn)
        : this(new Lazy<ITokenizer>(tokenizer), trainOn, null) => ArgumentNullException.ThrowIfNull(tokenizer);

    private RowTokenizer(Lazy<ITokenizer> tokenizer, string trainOn, string? folder)
    {
        _tokenizer = tokenizer;
        _end = new Lazy<int?>(End);
        _chat = new Lazy<ChatRenderer?>(() => Tokenizer.ChatTemplateText is null ? null : new ChatRenderer(Tokenizer, Declared()));
        (Folder, TrainOn) = (folder, trainOn);
        TrainsAll = trainOn == "all";
        TrainsLastTurnAlone = trainOn == "completion";
        TrainsReasoning = trainOn switch { "reasoning" => true, "final" => false, _ => null };
    }

    /// <summary>The model's folder, or null for a tokenizer from elsewhere.</summary>
    public string? Folder { get; }

    /// <summary>Which tokens are trained: data.train_on.</summary>
    public string TrainOn { get; }

    /// <summary>The rows that the objective trains on; null for whatever the files have.</summary>
    public RowKind? Kind { get; init; }

    /// <summary>Text ahead of each anchor of related texts.</summary>
    public string QueryPrompt { get; init; } = "";

    /// <summary>Text ahead of each positive and negative of related texts.</summary>
    public string DocumentPrompt { get; init; } = "";

    /// <summary>Whether the model's folder has a tokenizer; tokenized rows need none.</summary>
    public bool HasTokenizer => Folder is null || File.Exists(Path.Combine(Folder, "tokenizer.json")) || File.Exists(Path.Combine(Folder, "tokenizer.model")) || File.Exists(Path.Combine(Folder, "vocab.json"));

    /// <summary>The model's tokenizer.</summary>
    /// <exception cref="IOException">The folder has none.</exception>
    /// <exception cref="InvalidDataException">It cannot be read.</exception>
    public ITokenizer Tokenizer => _tokenizer.Value;

    /// <summary>The model's chat template, or null.</summary>
    public ChatRenderer? Chat => _chat.Value;

    /// <summary>Warnings about the tokenizer and its chat template, after rows were tokenized.</summary>
    public IReadOnlyCollection<string> Warnings =>
    [
        .. _chat.IsValueCreated && Chat is { } chat ? chat.Warnings : [],
        .. _endIsMissing ? ["neither the tokenizer (eos_token) nor config.json (eos_token_id) names an EOS token, so rows of plain text are trained without one, and the model does not learn when to stop."] : Array.Empty<string>(),
    ];

    /// <summary>Whether all tokens are trained.</summary>
    public bool TrainsAll { get; }

    /// <summary>Whether only the last assistant turn of a chat is trained.</summary>
    public bool TrainsLastTurnAlone { get; }

    /// <summary>Whether the assistant's reasoning is trained; null for the chat template's usual: see <see cref="TrainedTurns.Reasoning"/>.</summary>
    public bool? TrainsReasoning { get; }

    /// <summary>Tokenizes plain text, with the tokenizer's special tokens and the EOS token.</summary>
    /// <param name="text">The text.</param>
    /// <param name="trainedFrom">The first trained character; a token that overlaps it is trained.</param>
    /// <param name="place">Position of the text, for messages.</param>
    public TokenRow Plain(string text, int trainedFrom, string place)
    {
        ArgumentNullException.ThrowIfNull(text);
        var spans = Tokenizer.EncodeOnce(text);
        var end = _end.Value;
        _endIsMissing |= end is null;
        var ends = spans.Count > 0 && spans[^1].Id == end;
        var length = spans.Count + (ends || end is null ? 0 : 1);
        var (ids, labels) = (new int[length], new int[length]);
        for (var i = 0; i < spans.Count; i++)
        {
            var span = spans[i];
            ids[i] = span.Id;
            labels[i] = TrainsAll || (span.End > trainedFrom && span.End > span.Start) ? span.Id : TokenRow.Ignored;
        }

        if (end is { } id)
        {
            ids[^1] = labels[^1] = id;
        }

        return new TokenRow(ids, labels, place);
    }

    /// <summary>Tokenizes a text that a model reads as a whole, to classify or embed it: with the tokenizer's special tokens, and no EOS token of ours.</summary>
    /// <param name="text">The text.</param>
    /// <param name="place">Position of the text, for messages.</param>
    /// <exception cref="InvalidDataException">The text has no tokens.</exception>
    public int[] Whole(string text, string place)
    {
        ArgumentNullException.ThrowIfNull(text);
        int[] ids = [.. Tokenizer.EncodeOnce(text).Select(static s => s.Id)];
        return ids.Length > 0 ? ids : throw new InvalidDataException($"{place}: there is a text without tokens; fill it in, or remove the row.");
    }

    private static ITokenizer Load(string folder, string? chatTemplate, string name)
    {
        var tokenizer = OpenWeights.Tokenizers.Tokenizer.Load(folder);
        return chatTemplate is null ? tokenizer : tokenizer.WithChatTemplate(chatTemplate, name);
    }

    // The EOS token: the tokenizer's, or otherwise the one in the model's configs. A named token that is not in the vocabulary has no id,
    // so rows would not be terminated.
    private int? End() => Tokenizer.EosToken is { } own ? own
        : Tokenizer.SpecialTokens.TryGetValue("eos_token", out var named) && named.Length > 0 ? throw new InvalidDataException(
            $"{Folder}: eos_token \"{named}\" (tokenizer_config.json) is not in the vocabulary, so rows of text would not be terminated; name a token of the vocabulary.")
        : Declared() is [var declared, ..] ? declared
        : null;

    private IReadOnlyList<int> Declared() => Folder is not null && ModelFolder.IsModel(Folder) ? ModelFolder.Open(Folder).EosTokenIds : [];

    /// <summary>Tokenizes a rendered chat; no special tokens are added, because the template writes them.</summary>
    /// <param name="chat">The rendered chat.</param>
    /// <param name="place">Position of the chat, for messages.</param>
    public TokenRow Rendered(ChatForTraining chat, string place)
    {
        ArgumentNullException.ThrowIfNull(chat);
        var spans = Tokenizer.EncodeWithOffsets(chat.Text, addSpecialTokens: false);
        var (ids, labels, ends) = (new int[spans.Count], new int[spans.Count], new List<int>(chat.TurnEnds.Count));
        var (range, turn) = (0, 0);
        for (var i = 0; i < ids.Length; i++)
        {
            // Both tokens and ranges are in text order.
            var span = spans[i];
            while (range < chat.Trained.Count && chat.Trained[range].End.Value <= span.Start)
            {
                range++;
            }

            for (; turn < chat.TurnEnds.Count && chat.TurnEnds[turn] < span.End; turn++)
            {
                ends.Add(i);
            }

            ids[i] = span.Id;
            labels[i] = range < chat.Trained.Count && chat.Trained[range].Start.Value < span.End ? span.Id : TokenRow.Ignored;
        }

        return new TokenRow(ids, labels, place) { TurnEnds = [.. ends.Where(static e => e > 0)] };
    }
}
