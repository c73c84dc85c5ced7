namespace OpenWeights.Tune.Decoding.Grammars;

/// <summary>Grammars in the notation of llama.cpp (GBNF).</summary>
internal static class GbnfGrammar
{
    /// <summary>Reads a grammar; the rule "root" is the whole text.</summary>
    /// <param name="text">Its rules.</param>
    /// <exception cref="GrammarException">It is malformed or cannot be enforced; the message says where.</exception>
    public static Grammar Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        return new Grammar(new GbnfParser(text).Read());
    }
}
