using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Decoding.Grammars;

/// <summary>Grammars of JSON texts.</summary>
internal static class JsonGrammar
{
    private static readonly Lazy<Grammar> s_object = new(static () => new Grammar(Whole(JsonValues.Object)));

    /// <summary>Any JSON object.</summary>
    public static Grammar Object() => s_object.Value;

    /// <summary>The JSON values that a schema describes.</summary>
    /// <param name="schema">The JSON schema: an object, true or false.</param>
    /// <exception cref="GrammarException">The schema is invalid, or has something that cannot be enforced; the message names it.</exception>
    public static Grammar Of(JsonNode? schema) => new(Whole(Value(schema)));

    /// <summary>The expression of a schema's values.</summary>
    internal static GrammarNode Value(JsonNode? schema) => new SchemaReader(schema).Read();

    // Tokenizers that begin words with a space have one before a text's first word.
    private static GrammarNode Whole(GrammarNode value) => GrammarNode.Row(GrammarNode.Maybe(GrammarNode.Of(" ")), value);
}
