using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Files;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>
/// Detects images, audio and video in a row or message: models here process only text, and would be trained on answers to missing inputs.
/// </summary>
internal static class RowMedia
{
    private static readonly string[] s_fields = ["image", "images", "video", "videos", "audio", "audios", "pixel_values", "input_features"];

    /// <summary>The field that contains media, or null.</summary>
    internal static string? Field(JsonObject json) => s_fields.FirstOrDefault(f => json[f] is { } value && !IsEmpty(value));

    /// <summary>Throws if a row contains media.</summary>
    /// <exception cref="InvalidDataException">The row contains media.</exception>
    internal static void Refuse(DataRow row)
    {
        if (Field(row.Json) is { } field)
        {
            throw row.Error($"the row has \"{field}\", but only text is supported: the model would not see it. Skip such rows (bad_rows: skip), or remove the field from rows that do not need it.");
        }
    }

    private static bool IsEmpty(JsonNode value) => value switch
    {
        JsonArray list => list.All(static item => item is null || IsEmpty(item)),
        JsonObject map => map.All(static item => item.Value is null || IsEmpty(item.Value)),
        _ => value.GetValueKind() is JsonValueKind.False || (value.GetValueKind() == JsonValueKind.String && string.IsNullOrWhiteSpace(value.GetValue<string>())),
    };
}
