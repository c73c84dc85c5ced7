using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Extensions;

/// <summary>
/// Reads rows of a data set that has a format of its own. A class of your own is named in the format of a data set, or handed over in
/// DataSource.CustomFormat; it needs a constructor without parameters, or one that takes a DataSource. It is called from several threads.
/// </summary>
public interface IDataFormat
{
    /// <summary>The rows to train on that a row of the file stands for; none to leave it out.</summary>
    /// <param name="row">A row of the file.</param>
    /// <returns>Rows of any built-in format: with messages, prompt and completion, text, chosen and rejected, or input_ids and labels.</returns>
    /// <exception cref="InvalidDataException">The row is wrong; the message says how.</exception>
    IEnumerable<JsonObject> Read(JsonObject row);
}
