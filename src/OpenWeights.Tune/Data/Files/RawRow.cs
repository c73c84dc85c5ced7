using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Data.Files;

/// <summary>A row as it was cut out of its file, not yet understood: reading goes on in one thread, understanding in many.</summary>
/// <param name="Place">Where it stands.</param>
/// <param name="Content">Its bytes or cells.</param>
internal sealed record RawRow(RowPlace Place, IRawContent Content)
{
    /// <summary>The row with its fields.</summary>
    /// <exception cref="InvalidDataException">It cannot be understood; the message names its place.</exception>
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

/// <summary>What a row's bytes or cells mean.</summary>
internal interface IRawContent
{
    /// <summary>The row's fields.</summary>
    /// <exception cref="InvalidDataException">It cannot be understood; the message does not name the place.</exception>
    JsonObject Parse();

    /// <summary>About how many bytes it holds, to share work out by.</summary>
    int Size { get; }
}

/// <summary>Where a row stands.</summary>
/// <param name="File">The file.</param>
/// <param name="Number">Its number in the file, from 1.</param>
/// <param name="Unit">What the number counts.</param>
internal readonly record struct RowPlace(string File, long Number, RowUnit Unit)
{
    /// <summary>The place as messages write it.</summary>
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

    /// <summary>Rows of a file that has no lines, or in which lines say nothing.</summary>
    Row,

    /// <summary>Nothing: the file is one row.</summary>
    File,
}
