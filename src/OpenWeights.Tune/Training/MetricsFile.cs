using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Training;

/// <summary>metrics.jsonl: a line for each step and each evaluation, on the disk as soon as it is known.</summary>
public sealed class MetricsFile : IDisposable
{
    private readonly FileStream _stream;

    /// <summary>Opens the file of a run.</summary>
    /// <param name="path">The file.</param>
    /// <param name="stepsDone">The steps whose lines stay; later ones, of a run that is gone on from an earlier checkpoint, are cut away.</param>
    public MetricsFile(string path, long stepsDone)
    {
        var kept = stepsDone > 0 && File.Exists(path) ? Kept(path, stepsDone) : 0;
        _stream = new FileStream(path, FileMode.OpenOrCreate, FileAccess.Write, FileShare.Read);
        _stream.SetLength(kept);
        _stream.Position = kept;
    }

    /// <summary>Adds a line.</summary>
    public void Add<T>(T metrics)
    {
        _stream.Write(Encoding.UTF8.GetBytes(JsonSerializer.Serialize(metrics) + "\n"));
        _stream.Flush();
    }

    /// <inheritdoc/>
    public void Dispose() => _stream.Dispose();

    // The bytes of whole lines of steps that are done.
    private static long Kept(string path, long stepsDone)
    {
        var kept = 0L;
        foreach (var line in File.ReadAllText(path).Split('\n')[..^1])
        {
            try
            {
                if (JsonNode.Parse(line)?["step"]?.GetValue<long>() is not { } step || step > stepsDone)
                {
                    break;
                }
            }
            catch (JsonException)
            {
                break;
            }

            kept += Encoding.UTF8.GetByteCount(line) + 1;
        }

        return kept;
    }
}
