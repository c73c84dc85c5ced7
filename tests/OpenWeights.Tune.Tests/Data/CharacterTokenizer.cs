using OpenWeights.Tokenizers;

namespace OpenWeights.Tune.Tests.Data;

/// <summary>A token for each character, whose id is the character: what rows hold can be read and worked out without a tokenizer.</summary>
internal sealed class CharacterTokenizer(string? template = null) : ITokenizer
{
    internal const int Vocabulary = 1 << 16;

    internal const char End = '\u0003';

    internal const string ChatMl =
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

    public int? EosToken => End;

    public string? ChatTemplateText => template;

    public IReadOnlyDictionary<string, string> SpecialTokens { get; } = new Dictionary<string, string>();

    public string? ChatTemplateFor(bool withTools) => template;

    public int[] Encode(string text, bool addSpecialTokens) => [.. text.Select(static c => (int)c)];

    public IReadOnlyList<TokenSpan> EncodeWithOffsets(string text, bool addSpecialTokens, bool trimOffsets = false) => [.. text.Select(static (c, i) => new TokenSpan(c, i, i + 1))];

    public string Decode(IEnumerable<int> ids, bool skipSpecialTokens) => string.Concat(ids.Select(static i => (char)i));
}
