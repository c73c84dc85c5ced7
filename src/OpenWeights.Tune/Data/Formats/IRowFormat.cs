using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>A shape that rows of data files come in.</summary>
public interface IRowFormat
{
    /// <summary>The name in the config.</summary>
    string Name { get; }

    /// <summary>Whether a row looks like this format.</summary>
    bool Recognizes(JsonObject row);

    /// <summary>The row in tokens, with what is trained; of a preference several.</summary>
    /// <exception cref="InvalidDataException">The row lacks something; the message names its place.</exception>
    IReadOnlyList<TokenRow> Read(DataRow row, RowTokenizer tokenizer);

    /// <summary>The prompt that the row's answer follows, and that answer, or null where the format has no such thing.</summary>
    (int[] Prompt, string PromptText, string Answer)? Question(DataRow row, RowTokenizer tokenizer) => null;
}
