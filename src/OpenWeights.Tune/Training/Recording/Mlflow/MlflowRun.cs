using System.Globalization;
using System.Text.Json.Nodes;
using OpenWeights.Formats.Files;
using OpenWeights.Formats.Json;
using OpenWeights.Tune.Configuration;
using YamlDotNet.RepresentationModel;

namespace OpenWeights.Tune.Training.Recording.Mlflow;

/// <summary>What a run is to an MLflow server: its experiment, parameters, tags and data, and which of it was sent.</summary>
/// <param name="config">The run's config.</param>
/// <param name="statePath">The file that remembers the server's run.</param>
/// <param name="isResumed">Whether the run goes on.</param>
/// <param name="dataHashes">Hashes of the data files by path.</param>
internal sealed class MlflowRun(RunConfig config, string statePath, bool isResumed, IReadOnlyDictionary<string, string> dataHashes)
{
    private const int LongestDigest = 36;

    private readonly MlflowSection _section = config.Mlflow!;
    private string _experiment = "";
    private string _id = "";

    // The last step whose metrics the server certainly has, and that of a run before it was resumed, which does such steps again.
    private long _sent = -1;
    private long _had = -1;

    /// <summary>Where the server keeps the run's files; null if it does not keep them itself.</summary>
    internal string? ArtifactRoot { get; private set; }

    /// <summary>Finds or creates the run on the server.</summary>
    internal async Task Begin(MlflowClient client, CancellationToken stop)
    {
        if (isResumed && Known(client.Server) is { } known)
        {
            try
            {
                var updated = await client.Post("runs/update", new JsonObject { ["run_id"] = known.Id, ["status"] = "RUNNING" }, stop).ConfigureAwait(false);
                (_id, _had) = known;
                _sent = _had;
                Take(updated["run_info"]!.AsObject());
                return;
            }
            catch (MlflowRefusedException e) when (e.Code == "RESOURCE_DOES_NOT_EXIST")
            {
                // It was deleted there; the run goes on as a new one.
            }
        }

        _experiment = await Experiment(client, stop).ConfigureAwait(false);
        var created = await client.Post("runs/create", new JsonObject
        {
            ["experiment_id"] = _experiment,
            ["run_name"] = _section.RunName ?? Path.GetFileName(Path.TrimEndingDirectorySeparator(config.OutputDir)),
            ["start_time"] = Now(),
            ["tags"] = Tags(),
        }, stop).ConfigureAwait(false);
        Take(created["run"]!["info"]!.AsObject());
        Remember(client.Server, _sent);
        foreach (var some in Params().Chunk(MlflowClient.MostParams))
        {
            _ = await client.Post("runs/log-batch", new JsonObject { ["run_id"] = _id, ["params"] = new JsonArray([.. some.Select(static p => Pair(p.Key, p.Value))]) }, stop).ConfigureAwait(false);
        }

        _ = await client.Post("runs/log-inputs", new JsonObject { ["run_id"] = _id, ["datasets"] = DataSets() }, stop).ConfigureAwait(false);
    }

    /// <summary>Sends metrics, at most as many as a batch takes.</summary>
    internal async Task Send(MlflowClient client, IReadOnlyList<MlflowMetric> metrics, CancellationToken stop)
    {
        var lines = metrics.Where(m => m.Step > _had).Select(static m => (JsonNode)new JsonObject { ["key"] = m.Name, ["value"] = Number(m.Value), ["timestamp"] = m.Time, ["step"] = m.Step }).ToArray();
        if (lines.Length > 0)
        {
            _ = await client.Post("runs/log-batch", new JsonObject { ["run_id"] = _id, ["metrics"] = new JsonArray(lines) }, stop).ConfigureAwait(false);
        }
    }

    /// <summary>Remembers up to which step the server has all metrics.</summary>
    internal void Sent(Uri server, long step)
    {
        if (step > _sent)
        {
            Remember(server, step);
        }
    }

    /// <summary>Uploads a file, or the files of a folder, and ends the run.</summary>
    internal async Task End(MlflowClient client, string status, IReadOnlyList<(string Name, string Path)> files, CancellationToken stop)
    {
        foreach (var (name, path) in ArtifactRoot is null ? [] : files)
        {
            await client.Put($"{ArtifactRoot}/{name}", path, stop).ConfigureAwait(false);
        }

        _ = await client.Post("runs/update", new JsonObject { ["run_id"] = _id, ["status"] = status, ["end_time"] = Now() }, stop).ConfigureAwait(false);
    }

    private void Take(JsonObject info)
    {
        const string served = "mlflow-artifacts:/";
        (_id, _experiment) = (info["run_id"]!.ToString(), info["experiment_id"]!.ToString());
        ArtifactRoot = info["artifact_uri"]?.ToString() is { } uri && uri.StartsWith(served, StringComparison.Ordinal) ? uri[served.Length..].TrimStart('/') : null;
    }

    private async Task<string> Experiment(MlflowClient client, CancellationToken stop)
    {
        try
        {
            var found = await client.Get($"experiments/get-by-name?experiment_name={Uri.EscapeDataString(_section.Experiment)}", stop).ConfigureAwait(false);
            return found["experiment"]!["experiment_id"]!.ToString();
        }
        catch (MlflowRefusedException e) when (e.Code == "RESOURCE_DOES_NOT_EXIST")
        {
            return await Create(client, stop).ConfigureAwait(false);
        }
    }

    private async Task<string> Create(MlflowClient client, CancellationToken stop)
    {
        try
        {
            return (await client.Post("experiments/create", new JsonObject { ["name"] = _section.Experiment }, stop).ConfigureAwait(false))["experiment_id"]!.ToString();
        }
        catch (MlflowRefusedException e) when (e.Code == "RESOURCE_ALREADY_EXISTS")
        {
            // Another run has created it just now.
            var found = await client.Get($"experiments/get-by-name?experiment_name={Uri.EscapeDataString(_section.Experiment)}", stop).ConfigureAwait(false);
            return found["experiment"]!["experiment_id"]!.ToString();
        }
    }

    private (string Id, long Step)? Known(Uri server)
    {
        if (!File.Exists(statePath))
        {
            return null;
        }

        var state = JsonFile.ReadObject(statePath);
        return state["server"]?.ToString() == server.ToString() && state["run_id"]?.ToString() is { } id ? (id, state["step"]?.GetValue<long>() ?? -1) : null;
    }

    private void Remember(Uri server, long step)
    {
        _sent = step;
        AtomicFile.WriteText(statePath, new JsonObject { ["server"] = server.ToString(), ["experiment_id"] = _experiment, ["run_id"] = _id, ["step"] = step }.ToJsonString() + "\n");
    }

    private JsonArray Tags() =>
    [
        Pair("mlflow.user", Environment.UserName), Pair("mlflow.source.name", "owt train"), Pair("mlflow.source.type", "LOCAL"), Pair("model", ModelPath.NameOf(config.Model.Path)),
        .. _section.Tags.Select(static t => Pair(Named(t.Key), t.Value)),
    ];

    // Each setting by its dotted name.
    private List<KeyValuePair<string, string>> Params()
    {
        var yaml = new YamlStream();
        yaml.Load(new StringReader(ConfigWriter.Write(config)));
        var found = new List<KeyValuePair<string, string>>();
        Flatten("", yaml.Documents[0].RootNode, found);
        return found;
    }

    private static void Flatten(string name, YamlNode node, List<KeyValuePair<string, string>> found)
    {
        switch (node)
        {
            case YamlMappingNode map:
                foreach (var (key, value) in map.Children)
                {
                    Flatten(name.Length == 0 ? key.ToString() : $"{name}.{key}", value, found);
                }

                break;
            case YamlSequenceNode list when list.Children.Any(static c => c is YamlMappingNode):
                for (var i = 0; i < list.Children.Count; i++)
                {
                    Flatten(string.Create(CultureInfo.InvariantCulture, $"{name}.{i}"), list.Children[i], found);
                }

                break;
            case YamlSequenceNode list:
                found.Add(KeyValuePair.Create(Named(name), Short($"[{string.Join(", ", list.Children)}]")));
                break;
            default:
                found.Add(KeyValuePair.Create(Named(name), Short(node.ToString())));
                break;
        }
    }

    private JsonArray DataSets() =>
    [
        .. Sources("training", config.Data.Train).Concat(Sources("eval", config.Data.Eval)),
    ];

    private IEnumerable<JsonNode> Sources(string context, IEnumerable<DataSource> sources) => sources.Where(static s => s.Path.Length > 0).Select(source => (JsonNode)new JsonObject
    {
        ["tags"] = new JsonArray(Pair("mlflow.data.context", context)),
        ["dataset"] = new JsonObject
        {
            ["name"] = Path.GetFileName(Path.TrimEndingDirectorySeparator(source.Path)),
            ["digest"] = (dataHashes.GetValueOrDefault(source.Path) is { } hash ? hash[(hash.LastIndexOf(':') + 1)..] : "unknown") is var digest && digest.Length > LongestDigest ? digest[..LongestDigest] : digest,
            ["source_type"] = "local",
            ["source"] = new JsonObject { ["uri"] = source.Path }.ToJsonString(),
        },
    });

    private static string Short(string value) => value.Length <= MlflowClient.LongestParam ? value : value[..(MlflowClient.LongestParam - 1)] + "…";

    private static JsonNode Pair(string key, string value) => new JsonObject { ["key"] = key, ["value"] = value };

    /// <summary>A name as MLflow allows it: letters, digits, and _ - . : / and spaces.</summary>
    internal static string Named(string name) => string.Concat(name.Select(static c => char.IsAsciiLetterOrDigit(c) || c is '_' or '-' or '.' or ' ' or ':' or '/' ? c : '_'));

    // JSON has no other way for them, and MLflow reads these texts.
    private static JsonNode Number(double value) => double.IsFinite(value) ? value : double.IsNaN(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";

    private static long Now() => DateTimeOffset.UtcNow.ToUnixTimeMilliseconds();
}

/// <summary>A metric of a step.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Value">Its value.</param>
/// <param name="Step">The step.</param>
/// <param name="Time">Milliseconds since 1970.</param>
internal sealed record MlflowMetric(string Name, double Value, long Step, long Time);
