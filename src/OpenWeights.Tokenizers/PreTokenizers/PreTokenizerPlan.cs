namespace OpenWeights.Tokenizers;

/// <summary>
/// A tokenizer's chain of pre-tokenizers, made ready to run: a last "ByteLevel" is left to the model where that can do without the
/// written-out alphabet, and a chain that is nothing but a tiling pattern needs no list of pieces.
/// </summary>
internal sealed class PreTokenizerPlan
{
    private readonly PreTokenizer[] _steps;

    public PreTokenizerPlan(IReadOnlyList<PreTokenizer> steps, bool modelTakesByteLevel)
    {
        EndsByteLevel = modelTakesByteLevel && steps.Count > 0 && steps[^1] is ByteLevelPreTokenizer;
        _steps = [.. EndsByteLevel ? steps.Take(steps.Count - 1) : steps];
        Tiling = _steps is [SplitPreTokenizer split] ? split.Tiling : null;
        NeedsAlignment = _steps.Any(s => s.NeedsAlignment);
    }

    /// <summary>The one pattern that makes the pieces, or null.</summary>
    public TilingPattern? Tiling { get; }

    /// <summary>Whether the text is one piece.</summary>
    public bool IsEmpty => _steps.Length == 0;

    /// <summary>Whether the pieces are to be given to <see cref="TokenModel.TokenizeByteLevel"/>.</summary>
    public bool EndsByteLevel { get; }

    /// <summary>Whether a step depends on where in the input a piece began.</summary>
    public bool NeedsAlignment { get; }

    /// <summary>Runs the steps.</summary>
    public void Apply(PreTokenizedText text)
    {
        foreach (var step in _steps)
        {
            step.Apply(text);
        }
    }
}
