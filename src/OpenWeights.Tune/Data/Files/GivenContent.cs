using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Data.Files;

/// <summary>A row that a program gives.</summary>
/// <param name="json">The row.</param>
internal sealed class GivenContent(JsonObject json) : IRawContent
{
    /// <inheritdoc/>
    public int Size => 1024;

    /// <inheritdoc/>
    public JsonObject Parse() => json.DeepClone().AsObject();
}
