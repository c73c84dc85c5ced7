using System.Collections;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune;

/// <summary>
/// Rows that a program gives instead of files. A run reads them once, and the first of them again to ask for answers: a sequence that can be read only
/// once is kept for that as far as it takes.
/// </summary>
internal sealed class GivenRows : IEnumerable<JsonObject>
{
    // As many as a run may look through for rows with a prompt.
    private const int Kept = 8192;
    private const string Prefix = "program:";

    /// <summary>What to say where the rows are not there.</summary>
    internal const string Gone = "a program gave these rows, so they are in no file; give them again by the program, or name a file that has them.";

    private readonly IEnumerable<TrainingRow> _rows;
    private readonly bool _canRepeat;
    private List<JsonObject>? _first;

    internal GivenRows(IEnumerable<TrainingRow> rows)
    {
        ArgumentNullException.ThrowIfNull(rows);
        (_rows, _canRepeat) = (rows, rows is ICollection or IReadOnlyCollection<TrainingRow>);
    }

    /// <summary>The path that stands for rows of a program, in a run's settings and in messages.</summary>
    /// <param name="name">A name of the rows.</param>
    internal static string PathOf(string name) => Prefix + name;

    /// <summary>Whether a path stands for rows of a program.</summary>
    /// <param name="path">The path.</param>
    internal static bool Is(string path) => path.StartsWith(Prefix, StringComparison.Ordinal);

    /// <inheritdoc/>
    public IEnumerator<JsonObject> GetEnumerator()
    {
        if (_first is { } first)
        {
            return first.GetEnumerator();
        }

        return _canRepeat ? _rows.Select(Json).GetEnumerator() : Read().GetEnumerator();
    }

    /// <inheritdoc/>
    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    private IEnumerable<JsonObject> Read()
    {
        var first = new List<JsonObject>();
        foreach (var row in _rows)
        {
            var json = Json(row, first.Count);
            if (first.Count < Kept)
            {
                first.Add(json);
            }

            yield return json;
        }

        _first = first;
    }

    private static JsonObject Json(TrainingRow row, int at) => row?.Json ?? throw new InvalidDataException($"row {at + 1} of those that the program gives is null.");
}
