using System.Collections.Concurrent;
using System.Text;
using OpenWeights.Tokenizers.Templates;

namespace OpenWeights.Tokenizers;

/// <summary>
/// A tokenizer of a language model: text to ids and back, exactly as the library that the model was trained with does it
/// (Hugging Face tokenizers for tokenizer.json, SentencePiece, tiktoken).
/// </summary>
/// <remarks>
/// Safe for use by several threads at once. Unpaired surrogates in a text count as U+FFFD, as they do once a text is written as
/// UTF-8. The <c>truncation</c> and <c>padding</c> of a tokenizer.json are not applied.
/// </remarks>
public sealed class Tokenizer : ITokenizer
{
    private readonly TokenizerParts _parts;
    private readonly TokenModel _model;
    private readonly AddedVocabulary _added;
    private readonly EncodePipeline _pipeline;
    private readonly Lazy<EncodePipeline> _plainPipeline;
    private readonly PostProcessor _postProcessor;
    private readonly IReadOnlyList<TokenDecoder> _decoders;
    private readonly ConcurrentBag<EncodeState> _states = [];
    private readonly TokenizerSettings _settings;

    internal Tokenizer(TokenizerParts parts, TokenizerSettings settings)
    {
        _parts = parts;
        _model = parts.Model;
        _added = new AddedVocabulary(parts.AddedTokens, parts.Normalizers);
        _pipeline = new EncodePipeline(parts, _added);
        _plainPipeline = new Lazy<EncodePipeline>(() => new EncodePipeline(parts, new AddedVocabulary(parts.AddedTokens.Where(static t => !t.Special), parts.Normalizers)));
        _postProcessor = parts.PostProcessor;
        _decoders = parts.Decoders ?? [new JoinWithSpaces()];
        _settings = settings;
        VocabularySize = Math.Max(_model.Vocabulary.Size, _added.Size);
        BosToken = IdOf(settings.BosToken);
        EosToken = IdOf(settings.EosToken);
        PadToken = IdOf(settings.PadToken);
        UnknownToken = IdOf(settings.UnknownToken);
    }

    /// <summary>The largest id plus one. A model's embedding may have more rows than that.</summary>
    public int VocabularySize { get; }

    /// <summary>The id of the configured <c>bos_token</c>, or null.</summary>
    public int? BosToken { get; }

    /// <summary>The id of the configured <c>eos_token</c>, or null.</summary>
    public int? EosToken { get; }

    /// <summary>The id of the configured <c>pad_token</c>, or null.</summary>
    public int? PadToken { get; }

    /// <summary>The id of the configured <c>unk_token</c>, or null.</summary>
    public int? UnknownToken { get; }

    /// <summary>
    /// The chat template (Jinja) in or beside the tokenizer's files; the one named "default" if there are several; null if there is none.
    /// </summary>
    public string? ChatTemplateText => _settings.ChatTemplates.GetValueOrDefault("default");

    /// <summary>What messages about the chat template call it: the file it is from.</summary>
    public string ChatTemplateName => _settings.ChatTemplateName;

    /// <summary>The chat template for a conversation, chosen as transformers does: with tools the one named "tool_use" if there is one, else <see cref="ChatTemplateText"/>.</summary>
    /// <param name="withTools">Whether the conversation has a list of tools.</param>
    public string? ChatTemplateFor(bool withTools) => ChatTemplateFiles.Choose(_settings.ChatTemplates, withTools);

    /// <summary>All chat templates by name. A single one is named "default".</summary>
    public IReadOnlyDictionary<string, string> ChatTemplates => _settings.ChatTemplates;

    /// <summary>Special tokens by their names in tokenizer_config.json and special_tokens_map.json (<c>bos_token</c>, <c>eos_token</c>, ...).</summary>
    public IReadOnlyDictionary<string, string> SpecialTokens => _settings.SpecialTokens;

    /// <summary>Whether a folder holds a tokenizer that <see cref="Load"/> looks for.</summary>
    /// <param name="folder">The folder.</param>
    public static bool IsIn(string folder) => TokenizerLoader.HasTokenizer(folder);

    /// <summary>
    /// Loads a tokenizer: a folder (its tokenizer.json, else tokenizer.model, else vocab.json with merges.txt), or one of these files.
    /// tokenizer_config.json, special_tokens_map.json and chat templates beside it are read where they are present.
    /// </summary>
    /// <param name="folderOrFile">The folder or the file.</param>
    /// <exception cref="FileNotFoundException">There is no such file, or no tokenizer in the folder.</exception>
    /// <exception cref="InvalidDataException">A file is malformed or wants something that is not supported; the message names the file and the key.</exception>
    public static Tokenizer Load(string folderOrFile) => TokenizerLoader.Load(folderOrFile);

    /// <summary>The same tokenizer with another chat template, which counts for conversations with tools too.</summary>
    /// <param name="template">The template's text (Jinja).</param>
    /// <param name="name">What messages call it, such as its file.</param>
    public Tokenizer WithChatTemplate(string template, string name = "the chat template")
    {
        ArgumentNullException.ThrowIfNull(template);
        return new Tokenizer(_parts, _settings with { ChatTemplates = new Dictionary<string, string> { ["default"] = template }, ChatTemplateName = name });
    }

    /// <summary>Encodes a text.</summary>
    /// <param name="text">The text.</param>
    /// <param name="addSpecialTokens">Whether to add what the tokenizer puts around a text, such as BOS. Text rendered from a chat template has them already.</param>
    /// <returns>The ids.</returns>
    public int[] Encode(ReadOnlySpan<char> text, bool addSpecialTokens)
    {
        return Encode(_pipeline, text, addSpecialTokens);
    }

    /// <summary>Whether a text has more tokens than some number, without those that are put around it; it is encoded no further than needed to tell.</summary>
    /// <param name="text">The text.</param>
    /// <param name="most">The number.</param>
    public bool HasMoreThan(string text, int most)
    {
        ArgumentNullException.ThrowIfNull(text);
        ArgumentOutOfRangeException.ThrowIfNegative(most);
        var state = Rent();
        state.Most = most;
        EncodeText(_pipeline, text, state, withRanges: false);
        var hasMore = state.IsFull;
        state.Most = int.MaxValue;
        Return(state, text.Length);
        return hasMore;
    }

    /// <summary>Encodes a text in which special tokens are text like any other, as Hugging Face's <c>split_special_tokens</c> has it.</summary>
    /// <param name="text">The text.</param>
    /// <param name="addSpecialTokens">As in <see cref="Encode(ReadOnlySpan{char}, bool)"/>.</param>
    public int[] EncodePlain(string text, bool addSpecialTokens)
    {
        ArgumentNullException.ThrowIfNull(text);
        return Encode(_plainPipeline.Value, text, addSpecialTokens);
    }

    /// <inheritdoc cref="Encode(ReadOnlySpan{char}, bool)"/>
    public int[] Encode(string text, bool addSpecialTokens)
    {
        ArgumentNullException.ThrowIfNull(text);
        return Encode(text.AsSpan(), addSpecialTokens);
    }

    /// <summary>Encodes a text, with the character offsets of each token.</summary>
    /// <param name="text">The text.</param>
    /// <param name="addSpecialTokens">As in <see cref="Encode(ReadOnlySpan{char}, bool)"/>.</param>
    /// <param name="trimOffsets">
    /// Whether to leave white space at the edges of a token out of its range where the tokenizer's <c>trim_offsets</c> says so, as
    /// Hugging Face does. By default a range is everything that the token stands for. Characters that became one token share it;
    /// tokens that are parts of one character (its bytes) have the whole character each.
    /// </param>
    /// <returns>The tokens with their ranges in the text, in UTF-16 units.</returns>
    public IReadOnlyList<TokenSpan> EncodeWithOffsets(ReadOnlySpan<char> text, bool addSpecialTokens, bool trimOffsets = false)
    {
        var state = Rent();
        EncodeText(_pipeline, text, state, withRanges: true);
        var own = new TokenSpan[state.Output.Count];
        for (var i = 0; i < own.Length; i++)
        {
            own[i] = new TokenSpan(state.Output.Ids[i], state.Output.Starts[i], state.Output.Ends[i]);
            if (trimOffsets && _postProcessor.Trim is { } trim)
            {
                own[i] = trim.Apply(IdToToken(own[i].Id) ?? "", own[i], i == 0);
            }
        }

        var all = new TokenSpan[CountWith(own.Length, addSpecialTokens)];
        var at = 0;
        foreach (var piece in _postProcessor.Pieces)
        {
            if (piece is null)
            {
                own.CopyTo(all, at);
                at += own.Length;
            }
            else if (addSpecialTokens)
            {
                all[at++] = new TokenSpan(piece.Value, 0, 0);
            }
        }

        Return(state, text.Length);
        return all;
    }

    /// <inheritdoc cref="EncodeWithOffsets(ReadOnlySpan{char}, bool, bool)"/>
    public IReadOnlyList<TokenSpan> EncodeWithOffsets(string text, bool addSpecialTokens, bool trimOffsets = false)
    {
        ArgumentNullException.ThrowIfNull(text);
        return EncodeWithOffsets(text.AsSpan(), addSpecialTokens, trimOffsets);
    }

    /// <summary>Decodes tokens.</summary>
    /// <param name="ids">Their ids. An id that no token has adds nothing.</param>
    /// <param name="skipSpecialTokens">Whether to leave special tokens out.</param>
    /// <returns>The text. Bytes that are no UTF-8 become U+FFFD.</returns>
    public string Decode(ReadOnlySpan<int> ids, bool skipSpecialTokens)
    {
        var decoder = CreateStreamingDecoder(skipSpecialTokens);
        foreach (var id in ids)
        {
            decoder.Push(id);
        }

        return decoder.Finish();
    }

    /// <inheritdoc cref="Decode(ReadOnlySpan{int}, bool)"/>
    public string Decode(IEnumerable<int> ids, bool skipSpecialTokens) => Decode(ids.ToArray().AsSpan(), skipSpecialTokens);

    /// <summary>Begins to decode tokens as they come.</summary>
    /// <param name="skipSpecialTokens">Whether to leave special tokens out.</param>
    public StreamingDecoder CreateStreamingDecoder(bool skipSpecialTokens) => new(this, _decoders, skipSpecialTokens, goesOn: false);

    /// <summary>Begins to decode tokens that go on from other text, so that a space before the first word stays.</summary>
    /// <param name="skipSpecialTokens">Whether to leave special tokens out.</param>
    public StreamingDecoder CreateContinuedDecoder(bool skipSpecialTokens) => new(this, _decoders, skipSpecialTokens, goesOn: true);

    /// <summary>The id of a token as the vocabulary spells it (<c>Ġthe</c>, <c>▁the</c>), or null.</summary>
    public int? TokenToId(string token)
    {
        ArgumentNullException.ThrowIfNull(token);
        return _added.Find(token)?.Id ?? (_model.Vocabulary.Find(token) is >= 0 and var id ? id : null);
    }

    /// <summary>The token with an id, as the vocabulary spells it, or null.</summary>
    public string? IdToToken(int id) => _added.Find(id)?.Content ?? _model.Vocabulary.Token(id);

    /// <summary>Whether decoding without special tokens leaves the token out.</summary>
    public bool IsSpecial(int id) => _added.Find(id)?.Special ?? false;

    /// <summary>Whether a token was added to the model's own vocabulary: special ones, and texts that are always one token.</summary>
    /// <param name="id">Its id.</param>
    public bool IsAdded(int id) => _added.Find(id) is not null;

    /// <summary>
    /// The bytes that a token adds to a text, between others; they may be a part of a character. Null if no token has the id.
    /// </summary>
    /// <param name="id">Its id.</param>
    public byte[]? BytesOf(int id)
    {
        if (DecodedForm(id, skipSpecialTokens: false) is not { } text)
        {
            return null;
        }

        foreach (var decoder in _decoders)
        {
            if (decoder.BytesOf(text) is { } bytes)
            {
                return bytes;
            }

            text = decoder.InText(text);
        }

        return Encoding.UTF8.GetBytes(text);
    }

    /// <summary>The text that the decoders receive for an id; null to skip it.</summary>
    internal string? DecodedForm(int id, bool skipSpecialTokens)
    {
        var token = _added.DecodedForm(id) ?? _model.Vocabulary.Token(id);
        return token is null || (skipSpecialTokens && _added.IsLeftOut(token)) ? null : token;
    }

    private int[] Encode(EncodePipeline pipeline, ReadOnlySpan<char> text, bool addSpecialTokens)
    {
        var state = Rent();
        EncodeText(pipeline, text, state, withRanges: false);
        var ids = new int[CountWith(state.Output.Count, addSpecialTokens)];
        Assemble(state.Output.Ids, addSpecialTokens, ids);
        Return(state, text.Length);
        return ids;
    }

    private static void EncodeText(EncodePipeline pipeline, ReadOnlySpan<char> text, EncodeState state, bool withRanges)
    {
        state.Output.Clear(withRanges);
        pipeline.Encode(WellFormedText.Of(text), state);
    }

    private int CountWith(int tokens, bool addSpecialTokens) =>
        (tokens * _postProcessor.TextCount) + (addSpecialTokens ? _postProcessor.Pieces.Count - _postProcessor.TextCount : 0);

    private void Assemble(ReadOnlySpan<int> ids, bool addSpecialTokens, Span<int> destination)
    {
        var at = 0;
        foreach (var piece in _postProcessor.Pieces)
        {
            if (piece is null)
            {
                ids.CopyTo(destination[at..]);
                at += ids.Length;
            }
            else if (addSpecialTokens)
            {
                destination[at++] = piece.Value;
            }
        }
    }

    private EncodeState Rent() => _states.TryTake(out var state) ? state : new EncodeState();

    private void Return(EncodeState state, int inputLength)
    {
        state.Trim(inputLength);
        _states.Add(state);
    }

    private int? IdOf(string? token) => token is null ? null : TokenToId(token);
}

/// <summary>Components of a tokenizer, independent of its file format.</summary>
internal sealed record TokenizerParts
{
    public required TokenModel Model { get; init; }

    public NormalizerChain Normalizers { get; init; } = new([]);

    public IReadOnlyList<PreTokenizer> PreTokenizers { get; init; } = [];

    public PostProcessor PostProcessor { get; init; } = PostProcessor.None;

    /// <summary>The decoders in order; null where the tokens are joined with spaces.</summary>
    public IReadOnlyList<TokenDecoder>? Decoders { get; init; }

    public IReadOnlyList<AddedToken> AddedTokens { get; init; } = [];
}
