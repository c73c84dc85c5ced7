using System.Text;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Data.Files;

/// <summary>A row of a CSV or TSV file.</summary>
/// <param name="header">Column names.</param>
/// <param name="cells">Bytes of the row's cells.</param>
/// <param name="problem">A problem with the row, or null.</param>
internal sealed class CellContent(string[] header, byte[][] cells, string? problem) : IRawContent
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
            throw new InvalidDataException($"this row has {cells.Length} cells, but the header has {header.Length}; cells that contain separators or line breaks must be quoted.");
        }

        var row = new JsonObject();
        for (var i = 0; i < cells.Length; i++)
        {
            row[header[i]] = Text(cells[i], header[i]);
        }

        return row;
    }

    /// <summary>The text of a cell.</summary>
    internal static string Text(byte[] utf8, string column)
    {
        try
        {
            return s_strict.GetString(utf8);
        }
        catch (DecoderFallbackException e)
        {
            throw new InvalidDataException($"\"{column}\" is not valid UTF-8; save the file as UTF-8.", e);
        }
    }
}
