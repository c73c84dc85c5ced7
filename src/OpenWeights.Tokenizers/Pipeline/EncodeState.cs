using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>State of one encoding: buffers and the word cache. A tokenizer keeps a pool of these.</summary>
internal sealed class EncodeState
{
    private const int LargestKept = 1 << 20;

    /// <summary>The tokens so far.</summary>
    public TokenOutput Output { get; private set; } = new();

    /// <summary>Number of tokens after which the rest of the text is left.</summary>
    public int Most { get; set; } = int.MaxValue;

    /// <summary>Whether there are more tokens than are wanted.</summary>
    public bool IsFull => Output.Count > Most;

    /// <summary>Words that the model has seen.</summary>
    public WordCache Words { get; } = new();

    /// <summary>Parts of words that the model has seen, where they differ from words.</summary>
    public WordCache Parts { get; } = new();

    /// <summary>The symbols of a word that is being merged.</summary>
    public MergeScratch Merge { get; private set; } = new();

    /// <summary>Two texts for the normalizers to write into by turns.</summary>
    public AlignedText Front { get; private set; } = new();

    /// <inheritdoc cref="Front"/>
    public AlignedText Back { get; private set; } = new();

    /// <summary>The text and its pieces during pre-tokenization.</summary>
    public PreTokenizedText Pieces { get; private set; } = new();

    /// <summary>Bytes of a word.</summary>
    public byte[] Bytes { get; set; } = new byte[1024];

    /// <summary>A word in the byte-level alphabet.</summary>
    public byte[] Spelling { get; set; } = new byte[512];

    /// <summary>Numbers for whatever a model needs within one call.</summary>
    public int[] Numbers { get; set; } = new int[1024];

    /// <summary>A word's UTF-8, in a buffer that the next call overwrites.</summary>
    public ReadOnlySpan<byte> Utf8(ReadOnlySpan<char> word)
    {
        if ((long)word.Length * 3 > Bytes.Length)
        {
            Bytes = new byte[Math.Max(Encoding.UTF8.GetByteCount(word), Bytes.Length)];
        }

        return Bytes.AsSpan(0, Encoding.UTF8.GetBytes(word, Bytes));
    }

    /// <summary>Adds the symbols of <see cref="Merge"/>, whose ends count UTF-8 bytes of the word, to the output and to a cache.</summary>
    /// <param name="word">The word.</param>
    /// <param name="hash">Its hash; null where it is too long for a cache.</param>
    /// <param name="cache">The cache.</param>
    public void EmitMerged(ReadOnlySpan<char> word, uint? hash, WordCache cache)
    {
        var symbols = Merge.Symbols;
        if (hash is null)
        {
            EmitLong(word);
            return;
        }

        if (Numbers.Length < symbols.Length)
        {
            Numbers = new int[symbols.Length];
        }

        var ranges = Numbers.AsSpan(0, symbols.Length);
        var walker = new Utf8Walker(word);
        var start = 0;
        for (var i = 0; i < symbols.Length; i++)
        {
            var end = Merge.Ends[i];
            ranges[i] = walker.StartOf(start) | (walker.EndOf(end) << 16);
            start = end;
        }

        Output.Add(symbols, ranges);
        cache.Add(word, hash.Value, symbols, ranges);
    }

    private void EmitLong(ReadOnlySpan<char> word)
    {
        var symbols = Merge.Symbols;
        var walker = new Utf8Walker(Output.HasRanges ? word : default);
        var start = 0;
        for (var i = 0; i < symbols.Length; i++)
        {
            var end = Merge.Ends[i];
            Output.Add(symbols[i], walker.StartOf(start), walker.EndOf(end));
            start = end;
        }
    }

    /// <summary>Exchanges <see cref="Front"/> and <see cref="Back"/>.</summary>
    public void Swap() => (Front, Back) = (Back, Front);

    /// <summary>Lets go of buffers that a very long input made large, so that a pool of states does not hold them for ever.</summary>
    public void Trim(int inputLength)
    {
        if (inputLength <= LargestKept)
        {
            return;
        }

        Output = new TokenOutput();
        Merge = new MergeScratch();
        Front = new AlignedText();
        Back = new AlignedText();
        Pieces = new PreTokenizedText();
        Bytes = new byte[1024];
        Spelling = new byte[512];
        Numbers = new int[1024];
    }
}
