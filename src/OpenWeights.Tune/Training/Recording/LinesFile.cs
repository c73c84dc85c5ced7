using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Unicode;

namespace OpenWeights.Tune.Training.Recording;

/// <summary>A file of JSON lines that each belong to a step, written immediately: metrics.jsonl and samples.jsonl.</summary>
internal sealed class LinesFile : IDisposable
{
    private static readonly JsonSerializerOptions s_readable = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
    private readonly FileStream _stream;

    /// <summary>Opens the file of a run.</summary>
    /// <param name="path">The file.</param>
    /// <param name="stepsDone">Number of completed steps; lines of later steps, from before resuming at an earlier checkpoint, are
    /// removed.</param>
    public LinesFile(string path, long stepsDone)
    {
        var kept = stepsDone > 0 && File.Exists(path) ? Keep(path, stepsDone) : 0;
        _stream = new FileStream(path, FileMode.OpenOrCreate, FileAccess.Write, FileShare.Read);
        _stream.SetLength(kept);
        _stream.Position = kept;
    }

    /// <summary>All lines of the run so far, read from the file so that a long run does not keep them in memory.</summary>
    public IReadOnlyList<JsonObject> Read()
    {
        using var stream = new FileStream(_stream.Name, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        using var reader = new StreamReader(stream);
        var lines = new List<JsonObject>();
        while (reader.ReadLine() is { } line)
        {
            if (Parse(Encoding.UTF8.GetBytes(line)) is { } read)
            {
                lines.Add(read);
            }
        }

        return lines;
    }

    /// <summary>Adds a line.</summary>
    /// <param name="content">Its values.</param>
    /// <param name="more">Numbers that are written after them; one that is not finite is written as null.</param>
    /// <returns>The line as written.</returns>
    public JsonObject Add<T>(T content, IReadOnlyDictionary<string, double>? more = null)
    {
        var line = JsonSerializer.SerializeToNode(content, s_readable)!.AsObject();
        foreach (var (name, value) in more ?? new Dictionary<string, double>())
        {
            line[name] = double.IsFinite(value) ? value : null;
        }

        _stream.Write(Encoding.UTF8.GetBytes(line.ToJsonString(s_readable) + "\n"));
        _stream.Flush();
        return line;
    }

    /// <inheritdoc/>
    public void Dispose() => _stream.Dispose();

    // Length of the lines of completed steps. Lines written after training are written again.
    private static long Keep(string path, long stepsDone)
    {
        ReadOnlySpan<byte> bytes = File.ReadAllBytes(path);
        var kept = 0;
        while (bytes[kept..].IndexOf((byte)'\n') is >= 0 and var end)
        {
            var isDone = Parse(bytes.Slice(kept, end)) is { } read && read["step"] is JsonValue step && step.TryGetValue<long>(out var number) && number <= stepsDone
                && read["when"]?.ToString() != "after training";
            if (!isDone)
            {
                break;
            }

            kept += end + 1;
        }

        return kept;
    }

    // Null for a line that is none, such as one that was cut off when the program was killed.
    private static JsonObject? Parse(ReadOnlySpan<byte> line)
    {
        try
        {
            if (!Utf8.IsValid(line) || JsonNode.Parse(line, documentOptions: new JsonDocumentOptions { AllowDuplicateProperties = false }) is not JsonObject read)
            {
                return null;
            }

            // Half of an escaped surrogate pair is JSON, but no text: it is met here, and not where the text is used.
            foreach (var (_, value) in read)
            {
                _ = value is JsonValue text && text.GetValueKind() == JsonValueKind.String ? text.GetValue<string>() : null;
            }

            return read;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            return null;
        }
    }
}
