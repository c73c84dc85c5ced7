using System.Globalization;

namespace OpenWeights.Tokenizers;

/// <summary>Character data from the embedded Text/Data/unicode.txt, loaded on first use.</summary>
internal sealed class UnicodeData
{
    private static readonly Lazy<UnicodeData> s_instance = new(() => new UnicodeData());

    private readonly byte[] _classes = new byte[0x20000];
    private readonly Dictionary<int, Decomposition> _decompositions = new(8192);
    private readonly Dictionary<long, int> _compositions = new(2048);
    private readonly HashSet<int> _marks = [];
    private readonly HashSet<int> _punctuation = [];

    private UnicodeData()
    {
        using var stream = typeof(UnicodeData).Assembly.GetManifestResourceStream("unicode.txt")!;
        using var reader = new StreamReader(stream);
        while (reader.ReadLine() is { } line)
        {
            if (!line.StartsWith('#'))
            {
                Read(line);
            }
        }

        foreach (var (code, decomposition) in _decompositions)
        {
            if (decomposition is { IsCompatibility: false, IsExcluded: false, Parts: [var first, var second] })
            {
                _compositions[((long)first << 32) | (uint)second] = code;
                _ = Seconds.Add(second);
            }
        }
    }

    /// <summary>One step of decomposition.</summary>
    public sealed record Decomposition(int[] Parts, bool IsCompatibility, bool IsExcluded);

    /// <summary>The data.</summary>
    public static UnicodeData Instance => s_instance.Value;

    /// <summary>Characters that can join the one before them into a composed one.</summary>
    public HashSet<int> Seconds { get; } = [];

    /// <summary>All characters that decompose, with their first step.</summary>
    public IReadOnlyDictionary<int, Decomposition> Decompositions => _decompositions;

    /// <summary>The canonical combining class.</summary>
    public byte CombiningClass(int codePoint) => codePoint < _classes.Length ? _classes[codePoint] : (byte)0;

    /// <summary>The first step of a character's decomposition, or null.</summary>
    public Decomposition? Decompose(int codePoint) => _decompositions.GetValueOrDefault(codePoint);

    /// <summary>Composition of two characters, or -1.</summary>
    public int Compose(int first, int second) => _compositions.GetValueOrDefault(((long)first << 32) | (uint)second, -1);

    /// <summary>Whether a character is a combining mark.</summary>
    public bool IsMark(int codePoint) => _marks.Contains(codePoint);

    /// <summary>Whether a character is punctuation.</summary>
    public bool IsPunctuation(int codePoint) => _punctuation.Contains(codePoint);

    private static int Code(ReadOnlySpan<char> text) => int.Parse(text, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);

    /// <summary>Reads "XXXX" or "XXXX..YYYY".</summary>
    public static (int First, int Last) ParseRange(string text)
    {
        var dots = text.IndexOf("..", StringComparison.Ordinal);
        return dots < 0 ? (Code(text), Code(text)) : (Code(text.AsSpan(0, dots)), Code(text.AsSpan(dots + 2)));
    }

    private void Read(string line)
    {
        var words = line.Split(' ');
        switch (words[0])
        {
            case "class":
                var (first, last) = ParseRange(words[1]);
                _classes.AsSpan(first..(last + 1)).Fill(byte.Parse(words[2], CultureInfo.InvariantCulture));
                break;
            case "marks":
                AddRanges(words, _marks);
                break;
            case "punctuation":
                AddRanges(words, _punctuation);
                break;
            default:
                var mark = words[1][0];
                words[1] = words[1].TrimStart('<', '!');
                _decompositions.Add(Code(words[0]), new Decomposition([.. words.Skip(1).Select(w => Code(w))], mark == '<', mark == '!'));
                break;
        }
    }

    private static void AddRanges(string[] words, HashSet<int> set)
    {
        foreach (var word in words.Skip(1))
        {
            var (first, last) = ParseRange(word);
            set.UnionWith(Enumerable.Range(first, last - first + 1));
        }
    }
}
