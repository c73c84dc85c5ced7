using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Files;

namespace OpenWeights.Tune.Data.Formats;

/// <summary>Pictures, sounds and films of a row or a message: models here read text alone, and would be trained on answers to what they never saw.</summary>
internal static class RowMedia
{
    private static readonly string[] s_fields = ["image", "images", "video", "videos", "audio", "audios", "pixel_values", "input_features"];

    /// <summary>The field that holds such things, or null.</summary>
    internal static string? Field(JsonObject json) => s_fields.FirstOrDefault(f => json[f] is { } value && !IsEmpty(value));

    /// <summary>Refuses a row that has some.</summary>
    /// <exception cref="InvalidDataException">It has.</exception>
    internal static void Refuse(DataRow row)
    {
        if (Field(row.Json) is { } field)
        {
            throw row.Error($"the row has \"{field}\", and this version reads text alone: it would be trained without what it speaks of. Leave such rows out (bad_rows: skip does), or take the field out of rows that do not need it.");
        }
    }

    private static bool IsEmpty(JsonNode value) => value switch
    {
        JsonArray list => list.All(static item => item is null || IsEmpty(item)),
        JsonObject map => map.All(static item => item.Value is null || IsEmpty(item.Value)),
        _ => value.GetValueKind() is JsonValueKind.False || (value.GetValueKind() == JsonValueKind.String && string.IsNullOrWhiteSpace(value.GetValue<string>())),
    };
}
