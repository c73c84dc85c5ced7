using System.Globalization;
using System.Text.Json.Nodes;
using OpenWeights.Formats.Files;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Json;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Adapters;

/// <summary>
/// The labels of an adapter whose head scores them: PEFT's file has the head's weight, but not what its outputs mean, so a file of our own beside it
/// does, which PEFT ignores.
/// </summary>
internal static class LabelFile
{
    private const string Name = "labels.json";

    /// <summary>The head that an adapter brings; null if it brings none.</summary>
    /// <param name="path">The adapter's folder, a run folder, or a checkpoint.</param>
    /// <exception cref="InvalidDataException">The adapter's files cannot be read, or do not match.</exception>
    public static LabelHead? Of(string path)
    {
        var folder = AdapterFolder.Open(path);
        using var weights = folder.OpenWeights();
        if (!weights.TryGetTensor(PeftFolder.FileName($"{LabelHead.Module}.weight"), out var entry) || entry.Shape is not [var count, _])
        {
            return null;
        }

        var file = Path.Combine(folder.FolderPath, Name);
        if (!File.Exists(file))
        {
            return LabelHead.OfCount((int)count) with { IsNew = true };
        }

        var json = JsonFile.ReadObject(file);
        var names = json["id2label"] as JsonObject ?? [];
        return names.Count != count ? throw new InvalidDataException($"{file}: there are {names.Count} labels, but the adapter's head has {count} outputs; the file belongs to another adapter.")
            : new LabelHead([.. Enumerable.Range(0, names.Count).Select(i => names[i.ToString(CultureInfo.InvariantCulture)]?.ToString() ?? LabelHead.UsualName(i))]) { PadId = LabelHead.Pad(json), IsNew = true };
    }

    /// <summary>Writes the labels beside an adapter.</summary>
    /// <param name="folder">The adapter's folder; created if missing.</param>
    /// <param name="labels">The labels.</param>
    internal static void Write(string folder, LabelHead labels)
    {
        _ = Directory.CreateDirectory(folder);
        var json = new JsonObject
        {
            ["id2label"] = new JsonObject(labels.Names.Select(static (name, i) => KeyValuePair.Create(i.ToString(CultureInfo.InvariantCulture), (JsonNode?)name))),
            ["pad_token_id"] = labels.PadId,
        };
        AtomicFile.WriteText(Path.Combine(folder, Name), PythonJson.Serialize(json, indent: 2, sortKeys: false) + "\n");
    }
}
