using OpenWeights.Tokenizers;

namespace OpenWeights.Tune.Data;

/// <summary>Makes token rows of texts: what is trained is said in characters and carried over to the tokens.</summary>
public sealed class RowTokenizer
{
    private readonly Lazy<ITokenizer> _tokenizer;
    private readonly Lazy<ChatRenderer?> _chat;

    /// <summary>A maker of rows.</summary>
    /// <param name="folder">The model's folder. Its tokenizer is read when the first text comes; rows of token ids need none.</param>
    /// <param name="trainOn">assistant, completion or all: data.train_on.</param>
    public RowTokenizer(string folder, string trainOn)
        : this(new Lazy<ITokenizer>(() => OpenWeights.Tokenizers.Tokenizer.Load(folder)), trainOn)
    {
    }

    /// <summary>A maker of rows with a tokenizer that is loaded already, or is another library's.</summary>
    /// <param name="tokenizer">The tokenizer.</param>
    /// <param name="trainOn">assistant, completion or all: data.train_on.</param>
    public RowTokenizer(ITokenizer tokenizer, string trainOn)
        : this(new Lazy<ITokenizer>(tokenizer), trainOn) => ArgumentNullException.ThrowIfNull(tokenizer);

    private RowTokenizer(Lazy<ITokenizer> tokenizer, string trainOn)
    {
        _tokenizer = tokenizer;
        _chat = new Lazy<ChatRenderer?>(() => Tokenizer.ChatTemplateText is null ? null : new ChatRenderer(Tokenizer));
        TrainsAll = trainOn == "all";
        TrainsLastTurnAlone = trainOn == "completion";
    }

    /// <summary>The model's tokenizer.</summary>
    /// <exception cref="IOException">The folder has none.</exception>
    /// <exception cref="InvalidDataException">It cannot be read.</exception>
    public ITokenizer Tokenizer => _tokenizer.Value;

    /// <summary>The model's chat template, or null where it has none.</summary>
    public ChatRenderer? Chat => _chat.Value;

    /// <summary>What whoever trains on chats should know of the template, once some were read.</summary>
    public IReadOnlyCollection<string> ChatWarnings => _chat.IsValueCreated && Chat is { } chat ? chat.Warnings : [];

    /// <summary>Whether every token is trained.</summary>
    public bool TrainsAll { get; }

    /// <summary>Whether of a chat the last assistant turn alone is trained.</summary>
    public bool TrainsLastTurnAlone { get; }

    /// <summary>A row of plain text: the tokenizer's own specials around it, and the end of the text.</summary>
    /// <param name="text">The text.</param>
    /// <param name="trainedFrom">The first character that is trained; a token that reaches over it is.</param>
    /// <param name="place">Where the text comes from.</param>
    public TokenRow Plain(string text, int trainedFrom, string place)
    {
        ArgumentNullException.ThrowIfNull(text);
        var spans = Tokenizer.EncodeWithOffsets(text, addSpecialTokens: true);
        var ids = spans.Select(static s => s.Id).ToList();
        var labels = spans.Select(s => TrainsAll || (s.End > trainedFrom && s.End > s.Start) ? s.Id : TokenRow.Ignored).ToList();
        if (Tokenizer.EosToken is { } end && (ids.Count == 0 || ids[^1] != end))
        {
            ids.Add(end);
            labels.Add(end);
        }
        else if (ids.Count > 0 && ids[^1] == Tokenizer.EosToken)
        {
            labels[^1] = ids[^1];
        }

        return new TokenRow([.. ids], [.. labels], place);
    }

    /// <summary>A row of text that a chat template rendered: no specials are added, since the template wrote them.</summary>
    /// <param name="text">The rendered text.</param>
    /// <param name="trained">The characters that are trained, as ranges.</param>
    /// <param name="place">Where the chat comes from.</param>
    public TokenRow Rendered(string text, IReadOnlyList<Range> trained, string place)
    {
        ArgumentNullException.ThrowIfNull(text);
        ArgumentNullException.ThrowIfNull(trained);
        var spans = Tokenizer.EncodeWithOffsets(text, addSpecialTokens: false);
        bool IsTrained(TokenSpan s) => TrainsAll || trained.Any(r => s.Start < r.End.Value && s.End > r.Start.Value);
        return new TokenRow([.. spans.Select(static s => s.Id)], [.. spans.Select(s => IsTrained(s) ? s.Id : TokenRow.Ignored)], place);
    }
}
