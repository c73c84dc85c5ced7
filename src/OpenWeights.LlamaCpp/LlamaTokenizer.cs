using System.Text;
using LLama.Native;
using OpenWeights.Tokenizers;

namespace OpenWeights.LlamaCpp;

/// <summary>The tokenizer of a GGUF file as llama.cpp's programs use it: what the file says to add around a text (BOS, EOS) is added to every
/// text, a rendered chat too, and where the text has it already it is not doubled.</summary>
public sealed class LlamaTokenizer : ITokenizer
{
    private const string TemplateKey = "tokenizer.chat_template";
    private readonly SafeLlamaModelHandle _model;
    private readonly string? _addedBos;
    private readonly string? _addedEos;

    internal LlamaTokenizer(SafeLlamaModelHandle model)
    {
        _model = model;
        var vocabulary = model.Vocab;
        (BosToken, EosToken) = ((int?)vocabulary.BOS, (int?)vocabulary.EOS);
        ChatTemplateText = Text(model, TemplateKey);
        var names = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var (name, id) in new[] { ("bos_token", BosToken), ("eos_token", EosToken), ("pad_token", (int?)vocabulary.Pad) })
        {
            if (id is { } token)
            {
                names[name] = Piece(token);
            }
        }

        SpecialTokens = names;
        _addedBos = vocabulary.ShouldAddBOS ? names.GetValueOrDefault("bos_token") : null;
        _addedEos = vocabulary.ShouldAddEOS ? names.GetValueOrDefault("eos_token") : null;
    }

    /// <inheritdoc/>
    public int? BosToken { get; }

    /// <inheritdoc/>
    public int? EosToken { get; }

    /// <inheritdoc/>
    public string? ChatTemplateText { get; }

    /// <inheritdoc/>
    public IReadOnlyDictionary<string, string> SpecialTokens { get; }

    /// <inheritdoc/>
    public string? ChatTemplateFor(bool withTools) => withTools ? Text(_model, $"{TemplateKey}.tool_use") ?? ChatTemplateText : ChatTemplateText;

    /// <inheritdoc/>
    public int[] Encode(string text, bool addSpecialTokens) => [.. EncodeWithOffsets(text, addSpecialTokens).Select(static s => s.Id)];

    /// <inheritdoc/>
    /// <remarks>llama.cpp's programs add what the file says whether or not a template rendered the text, so <paramref name="addSpecialTokens"/> changes nothing.</remarks>
    public IReadOnlyList<TokenSpan> EncodeWithOffsets(string text, bool addSpecialTokens, bool trimOffsets = false)
    {
        ArgumentNullException.ThrowIfNull(text);
        var (start, end) = (Length(text, _addedBos, text.StartsWith), text.Length);
        end -= Length(text[start..], _addedEos, text.EndsWith);
        var ids = Array.ConvertAll(_model.Tokenize(text[start..end], addBos: true, special: true, Encoding.UTF8), static t => (int)t);
        var first = _addedBos is not null && ids is [var before, ..] && before == BosToken ? 1 : 0;
        var last = ids.Length - (_addedEos is not null && ids.Length > first && ids[^1] == EosToken ? 1 : 0);
        var spans = new List<TokenSpan>(ids.Length);
        spans.AddRange(ids.Take(first).Select(id => new TokenSpan(id, 0, start)));
        Lay(text, start, end, ids.AsSpan(first, last - first), spans);
        spans.AddRange(ids.Skip(last).Select(id => new TokenSpan(id, end, text.Length)));
        return spans;
    }

    /// <inheritdoc/>
    public string Decode(IEnumerable<int> ids, bool skipSpecialTokens)
    {
        ArgumentNullException.ThrowIfNull(ids);
        return Encoding.UTF8.GetString([.. ids.Where(id => !skipSpecialTokens || !IsSpecial(id)).SelectMany(Bytes)]);
    }

    private static int Length(string text, string? token, Func<string, StringComparison, bool> isThere) =>
        token is { Length: > 0 } && text.Length >= token.Length && isThere(token, StringComparison.Ordinal) ? token.Length : 0;

    private bool IsSpecial(int id) => ((LLamaToken)id).IsControl(_model.Vocab) || ((LLamaToken)id).IsEndOfGeneration(_model.Vocab);

    /// <summary>A text of the file's metadata; null where it has none of the name.</summary>
    internal static string? Text(SafeLlamaModelHandle model, string key) =>
        // LLamaSharp hands the key over without the zero at its end that llama.cpp looks for.
        model.MetadataValueByKey($"{key}\0") is { } value ? Encoding.UTF8.GetString(value.Span).TrimEnd('\0') : null;

    private string Piece(int id) => Encoding.UTF8.GetString(Bytes(id));

    private byte[] Bytes(int id)
    {
        Span<byte> buffer = stackalloc byte[64];
        var length = (int)_model.TokenToSpan(id, buffer, 0, special: true);
        if (length <= buffer.Length)
        {
            return buffer[..length].ToArray();
        }

        var large = new byte[length];
        _ = _model.TokenToSpan(id, large, 0, special: true);
        return large;
    }

    // llama.cpp does not say which characters a token stands for: its bytes are found in the text, one token after another. One whose bytes
    // are not there (the unknown token) reaches to where the next one is found.
    private void Lay(string text, int start, int end, ReadOnlySpan<int> ids, List<TokenSpan> spans)
    {
        var bytes = Encoding.UTF8.GetBytes(text, start, end - start).AsSpan();
        var characters = CharacterOfEachByte(text, start, end, bytes.Length);
        var (at, unknown) = (0, spans.Count);
        foreach (var id in ids)
        {
            var piece = Bytes(id).AsSpan();
            // SentencePiece's space before a text is not the text's.
            piece = !bytes[at..].StartsWith(piece) && piece is [(byte)' ', ..] && bytes[at..].StartsWith(piece[1..]) ? piece[1..] : piece;
            var found = unknown == spans.Count ? (bytes[at..].StartsWith(piece) ? 0 : -1) : bytes[at..].IndexOf(piece);
            if (found < 0)
            {
                spans.Add(new TokenSpan(id, characters[at], end));
                continue;
            }

            for (; unknown < spans.Count; unknown++)
            {
                spans[unknown] = spans[unknown] with { End = characters[at + found] };
            }

            at += found;
            spans.Add(new TokenSpan(id, characters[at], CharacterAfter(characters, at, at + piece.Length)));
            at += piece.Length;
            unknown = spans.Count;
        }
    }

    private static int CharacterAfter(int[] characters, int first, int next)
    {
        // A token that ends within a character stands for it too.
        while (next < characters.Length - 1 && next > first && characters[next] == characters[next - 1])
        {
            next++;
        }

        return characters[next];
    }

    private static int[] CharacterOfEachByte(string text, int start, int end, int count)
    {
        var characters = new int[count + 1];
        var at = 0;
        for (var i = start; i < end;)
        {
            _ = Rune.DecodeFromUtf16(text.AsSpan(i, end - i), out var rune, out var units);
            characters.AsSpan(at, rune.Utf8SequenceLength).Fill(i);
            at += rune.Utf8SequenceLength;
            i += units;
        }

        characters[count] = end;
        return characters;
    }
}
