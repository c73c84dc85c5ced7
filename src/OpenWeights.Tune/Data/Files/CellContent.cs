using System.Text;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Data.Files;

/// <summary>A row of a table of texts.</summary>
/// <param name="header">The columns' names.</param>
/// <param name="cells">The row's cells, each byte of UTF-8 as one character (Latin-1).</param>
/// <param name="problem">What is wrong with the row, or null.</param>
internal sealed class CellContent(string[] header, string[] cells, string? problem) : IRawContent
{
    private static readonly UTF8Encoding s_strict = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    public int Size => cells.Sum(static c => c.Length);

    public JsonObject Parse()
    {
        if (problem is not null)
        {
            throw new InvalidDataException(problem);
        }

        if (cells.Length != header.Length)
        {
            throw new InvalidDataException($"this row has {cells.Length} cells and the header {header.Length}; texts with separators or line ends stand in quotes.");
        }

        var row = new JsonObject();
        for (var i = 0; i < cells.Length; i++)
        {
            row[header[i]] = Text(cells[i], header[i]);
        }

        return row;
    }

    /// <summary>The text of a cell.</summary>
    internal static string Text(string latin1, string column)
    {
        try
        {
            return s_strict.GetString(Encoding.Latin1.GetBytes(latin1));
        }
        catch (DecoderFallbackException e)
        {
            throw new InvalidDataException($"\"{column}\" is not valid UTF-8; save the file as UTF-8.", e);
        }
    }
}
