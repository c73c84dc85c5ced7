namespace OpenWeights.Tune.Data.Files;

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
