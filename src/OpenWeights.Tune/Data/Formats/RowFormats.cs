namespace OpenWeights.Tune.Data.Formats;

/// <summary>The formats by their names. A new one is a new file and a line here; the first that recognises a row has it.</summary>
public static class RowFormats
{
    private static readonly IRowFormat[] s_formats =
        [new TokenizedFormat(), new PreferenceFormat(), new ChatFormat(), new InstructionFormat(), new CompletionFormat(), new TextFormat()];

    /// <summary>The format of a name, or for "auto" the one that a file's first row looks like.</summary>
    /// <exception cref="InvalidDataException">No format looks like the row.</exception>
    public static IRowFormat Find(string name, DataRow first)
    {
        ArgumentNullException.ThrowIfNull(first);
        if (name != "auto")
        {
            return s_formats.First(f => f.Name == name);
        }

        return s_formats.FirstOrDefault(f => f.Recognizes(first.Json)) ?? throw first.Error(
            $"the format of this row is not known; its keys are {string.Join(", ", first.Json.Select(static p => p.Key).Take(30))}. Known are messages or conversations (chat), instruction and output, "
            + "question and answer, prompt and completion, chosen and rejected, text, and input_ids with labels; the data set's setting fields says what they are called here, such as `fields: { prompt: ask, completion: reply }`.");
    }
}
