namespace OpenWeights.Tune.Export.Gguf;

/// <summary>A vocabulary in llama.cpp's terms.</summary>
/// <param name="model">gpt2 for byte-level BPE, llama for SentencePiece.</param>
/// <param name="pre">Name of the pre-tokenizer.</param>
internal sealed class GgufVocabulary(string model, string pre)
{
    internal string Model { get; } = model;

    internal string Pre { get; } = pre;

    internal List<string> Tokens { get; } = [];

    internal List<float> Scores { get; } = [];

    internal List<int> Types { get; } = [];

    /// <summary>Merges, as pairs separated by a space; null if there are none.</summary>
    internal string[]? Merges { get; init; }

    /// <summary>Whether a space is prepended to texts; null if not applicable.</summary>
    internal bool? AddsSpacePrefix { get; init; }

    internal void Add(string token, float score, int type)
    {
        Tokens.Add(token);
        Types.Add(type);
        if (Model == "llama")
        {
            Scores.Add(score);
        }
    }
}
