using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Training.Recording;

/// <summary>A file of JSON lines that each belong to a step, on the disk as soon as they are known: metrics.jsonl and samples.jsonl.</summary>
public sealed class LinesFile : IDisposable
{
    private static readonly JsonSerializerOptions s_readable = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
    private readonly FileStream _stream;

    /// <summary>Opens the file of a run.</summary>
    /// <param name="path">The file.</param>
    /// <param name="stepsDone">The steps whose lines stay; later ones, of a run that is gone on from an earlier checkpoint, are cut away.</param>
    public LinesFile(string path, long stepsDone)
    {
        var kept = stepsDone > 0 && File.Exists(path) ? Keep(path, stepsDone) : 0;
        _stream = new FileStream(path, FileMode.OpenOrCreate, FileAccess.Write, FileShare.Read);
        _stream.SetLength(kept);
        _stream.Position = kept;
    }

    /// <summary>All lines of the run so far. They are read from the file, so that a long run need not hold them in memory.</summary>
    public IReadOnlyList<JsonObject> Read()
    {
        using var reader = new StreamReader(new FileStream(_stream.Name, FileMode.Open, FileAccess.Read, FileShare.ReadWrite));
        var lines = new List<JsonObject>();
        while (reader.ReadLine() is { } line)
        {
            lines.Add(JsonNode.Parse(line)!.AsObject());
        }

        return lines;
    }

    /// <summary>Adds a line.</summary>
    /// <returns>The line as it was written.</returns>
    public JsonObject Add<T>(T content)
    {
        var line = JsonSerializer.SerializeToNode(content, s_readable)!.AsObject();
        _stream.Write(Encoding.UTF8.GetBytes(line.ToJsonString(s_readable) + "\n"));
        _stream.Flush();
        return line;
    }

    /// <inheritdoc/>
    public void Dispose() => _stream.Dispose();

    // The bytes of whole lines of steps that are done. What is said after training is said again.
    private static long Keep(string path, long stepsDone)
    {
        var kept = 0L;
        foreach (var line in File.ReadAllText(path).Split('\n')[..^1])
        {
            try
            {
                if (JsonNode.Parse(line) is not JsonObject read || read["step"]?.GetValue<long>() is not { } step || step > stepsDone
                    || read["when"]?.GetValue<string>() == "after training")
                {
                    break;
                }
            }
            catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException)
            {
                break;
            }

            kept += Encoding.UTF8.GetByteCount(line) + 1;
        }

        return kept;
    }
}
