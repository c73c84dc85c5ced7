using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Data.Files;

/// <summary>An unparsed row of a file: reading is done by one thread, parsing by many.</summary>
/// <param name="Place">Its position.</param>
/// <param name="Content">Its bytes or cells.</param>
internal sealed record RawRow(RowPlace Place, IRawContent Content)
{
    /// <summary>Parses the row.</summary>
    /// <exception cref="InvalidDataException">The row cannot be parsed; the message names its position.</exception>
    internal DataRow Parse()
    {
        try
        {
            return new DataRow(Content.Parse(), Place.ToString());
        }
        catch (InvalidDataException e)
        {
            throw new InvalidDataException($"{Place}: {e.Message}", e);
        }
    }
}

/// <summary>Bytes or cells of a row.</summary>
internal interface IRawContent
{
    /// <summary>Parses the fields.</summary>
    /// <exception cref="InvalidDataException">The row cannot be parsed; the message does not name the position.</exception>
    JsonObject Parse();

    /// <summary>Approximate size in bytes, to distribute work.</summary>
    int Size { get; }
}

/// <summary>The position of a row.</summary>
/// <param name="File">The file.</param>
/// <param name="Number">Number in the file, from 1.</param>
/// <param name="Unit">What the number counts.</param>
internal readonly record struct RowPlace(string File, long Number, RowUnit Unit)
{
    /// <summary>The position as shown in messages.</summary>
    public override string ToString() => Unit switch
    {
        RowUnit.Line => $"{File}:{Number}",
        RowUnit.Row => $"{File}, row {Number}",
        _ => File,
    };
}

/// <summary>What the number of a row counts.</summary>
internal enum RowUnit
{
    /// <summary>Lines of a text file.</summary>
    Line,

    /// <summary>Rows of a file without meaningful lines.</summary>
    Row,

    /// <summary>None: the file is one row.</summary>
    File,
}
