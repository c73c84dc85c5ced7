namespace OpenWeights.Tune.Data.Formats;

/// <summary>The formats by their names. A new one is a new file and a line here; the first that recognises a row has it.</summary>
public static class RowFormats
{
    private static readonly IRowFormat[] s_formats = [new TokenizedFormat(), new ChatFormat(), new InstructionFormat(), new CompletionFormat(), new TextFormat()];

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
            $"the format of this row is not known; its keys are {string.Join(", ", first.Json.Select(static p => p.Key))}. Known are messages (chat), instruction and output, prompt and completion, text, and input_ids with labels.");
    }
}
