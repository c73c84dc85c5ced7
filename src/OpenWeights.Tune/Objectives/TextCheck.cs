namespace OpenWeights.Tune.Objectives;

/// <summary>Checks texts of tokens before a model reads them.</summary>
internal static class TextCheck
{
    /// <summary>Throws if a text is empty, or has a token that the model does not know.</summary>
    /// <param name="texts">The tokens of each text.</param>
    /// <param name="vocabularySize">Number of tokens of the model.</param>
    /// <exception cref="InvalidDataException">A text is wrong.</exception>
    internal static void Require(IReadOnlyList<int[]> texts, int vocabularySize)
    {
        for (var i = 0; i < texts.Count; i++)
        {
            if (texts[i].Length == 0)
            {
                throw new InvalidDataException($"text {i + 1} has no tokens.");
            }

            if (Array.FindIndex(texts[i], id => id < 0 || id >= vocabularySize) is >= 0 and var bad)
            {
                throw new InvalidDataException($"text {i + 1}: token id {texts[i][bad]} is not one of the model's {vocabularySize} tokens.");
            }
        }
    }
}
