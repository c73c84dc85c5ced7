namespace OpenWeights.Tune.Export.Gguf;

/// <summary>Tokens in llama.cpp's terms.</summary>
/// <param name="model">gpt2 for byte-level BPE, llama for SentencePiece's.</param>
/// <param name="pre">How text is split before merging.</param>
internal sealed class GgufVocabulary(string model, string pre)
{
    internal string Model { get; } = model;

    internal string Pre { get; } = pre;

    internal List<string> Tokens { get; } = [];

    internal List<float> Scores { get; } = [];

    internal List<int> Types { get; } = [];

    /// <summary>Pairs with a space between, where merges are listed.</summary>
    internal string[]? Merges { get; init; }

    /// <summary>Whether a space is put before a text; null where the model has no such thing.</summary>
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
