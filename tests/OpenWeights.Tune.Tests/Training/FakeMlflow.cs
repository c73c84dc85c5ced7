using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace OpenWeights.Tune.Tests.Training;

/// <summary>As much of an MLflow server as a recorder uses, with its limits and refusals.</summary>
internal sealed partial class FakeMlflow : IDisposable
{
    private readonly HttpListener _listener = new();
    private int _asked;

    internal FakeMlflow()
    {
        Address = new Uri($"http://127.0.0.1:{FreePort()}/");
        _listener.Prefixes.Add(Address.ToString());
        _listener.Start();
        _ = Task.Run(Listen);
    }

    internal Uri Address { get; }

    internal ConcurrentDictionary<string, string> Experiments { get; } = new();

    internal ConcurrentDictionary<string, RecordedRun> Runs { get; } = new();

    internal ConcurrentDictionary<string, int> Artifacts { get; } = new();

    /// <summary>Number of requests that are answered with 503 first.</summary>
    internal int Away { get; init; }

    /// <summary>Set when the first request was answered otherwise.</summary>
    internal ManualResetEventSlim Returned { get; } = new();

    /// <summary>The Authorization header that is wanted; null for none.</summary>
    internal string? Secret { get; init; }

    internal int LargestBatch { get; private set; }

    internal static int FreePort()
    {
        using var socket = new TcpListener(IPAddress.Loopback, 0);
        socket.Start();
        return ((IPEndPoint)socket.LocalEndpoint).Port;
    }

    public void Dispose()
    {
        _listener.Close();
        Returned.Dispose();
    }

    private async Task Listen()
    {
        while (_listener.IsListening)
        {
            try
            {
                var context = await _listener.GetContextAsync();
                var (status, answer) = Answer(context.Request);
                context.Response.StatusCode = status;
                context.Response.OutputStream.Write(Encoding.UTF8.GetBytes(answer));
                context.Response.Close();
            }
            catch (Exception e) when (e is HttpListenerException or ObjectDisposedException or IOException)
            {
                return;
            }
        }
    }

    private (int Status, string Answer) Answer(HttpListenerRequest request)
    {
        if (++_asked <= Away)
        {
            return (503, "down");
        }

        Returned.Set();
        if (Secret is not null && request.Headers["Authorization"] != Secret)
        {
            return (401, "You are not authenticated.");
        }

        const string artifacts = "/api/2.0/mlflow-artifacts/artifacts/";
        var path = request.Url!.AbsolutePath;
        if (path.StartsWith(artifacts, StringComparison.Ordinal))
        {
            using var content = new MemoryStream();
            request.InputStream.CopyTo(content);
            Artifacts[path[artifacts.Length..]] = (int)content.Length;
            return (200, "");
        }

        using var reader = new StreamReader(request.InputStream);
        var body = reader.ReadToEnd() is { Length: > 0 } text ? JsonNode.Parse(text)!.AsObject() : [];
        try
        {
            return Called(path, body, request.QueryString["experiment_name"], request.QueryString["run_id"]) is { } found ? (200, found.ToJsonString()) : (404, "<!doctype html>\n<title>404 Not Found</title>");
        }
        catch (Refusal e)
        {
            return (e.Status, new JsonObject { ["error_code"] = e.Code, ["message"] = e.Message }.ToJsonString());
        }
    }

    private JsonObject? Called(string path, JsonObject body, string? experiment, string? run) => path["/api/2.0/mlflow/".Length..] switch
    {
        "experiments/get-by-name" => Experiments.TryGetValue(experiment!, out var id) ? new JsonObject { ["experiment"] = new JsonObject { ["experiment_id"] = id, ["name"] = experiment } }
            : throw new Refusal(404, "RESOURCE_DOES_NOT_EXIST", $"Could not find experiment with name '{experiment}'"),
        "experiments/create" => Experiments.TryAdd(body["name"]!.ToString(), $"{Experiments.Count + 1}") ? new JsonObject { ["experiment_id"] = $"{Experiments.Count}" }
            : throw new Refusal(400, "RESOURCE_ALREADY_EXISTS", "Experiment already exists."),
        "runs/create" => Create(body),
        "runs/log-batch" => Batch(body),
        "runs/log-parameter" => Batch(new JsonObject { ["run_id"] = body["run_id"]!.DeepClone(), ["params"] = new JsonArray(body.DeepClone()) }),
        "runs/log-metric" => Batch(new JsonObject { ["run_id"] = body["run_id"]!.DeepClone(), ["metrics"] = new JsonArray(body.DeepClone()) }),
        "runs/set-tag" => Batch(new JsonObject { ["run_id"] = body["run_id"]!.DeepClone(), ["tags"] = new JsonArray(body.DeepClone()) }),
        "runs/log-inputs" => Inputs(body),
        "runs/update" => Update(body),
        "runs/get" => new JsonObject { ["run"] = new JsonObject { ["info"] = Info(run!) } },
        "artifacts/list" or "metrics/get-history" or "runs/search" => [],
        _ => null,
    };

    private JsonObject Create(JsonObject body)
    {
        var experiment = body["experiment_id"]!.ToString();
        if (!Experiments.Values.Contains(experiment))
        {
            throw new Refusal(404, "RESOURCE_DOES_NOT_EXIST", $"No Experiment with id={experiment} exists");
        }

        var (id, run) = ($"{Runs.Count:x32}", new RecordedRun(experiment, body["run_name"]!.ToString()));
        Runs[id] = run;
        Put(run.Tags, body["tags"]);
        return new JsonObject { ["run"] = new JsonObject { ["info"] = Info(id) } };
    }

    private JsonObject Batch(JsonObject body)
    {
        var run = Run(body["run_id"]!.ToString());
        var (settings, metrics) = (body["params"] as JsonArray ?? [], body["metrics"] as JsonArray ?? []);
        Require(settings.Count <= 100, $"A batch logging request can contain at most 100 params. Got {settings.Count} params.");
        Require(metrics.Count <= 1000, $"A batch logging request can contain at most 1000 metrics. Got {metrics.Count} metrics.");
        LargestBatch = Math.Max(LargestBatch, metrics.Count);
        foreach (var setting in settings)
        {
            var (key, value) = (setting!["key"]!.ToString(), setting["value"]!.ToString());
            Require(Name().IsMatch(key), $"Invalid value \"{key}\" for parameter 'name' supplied.");
            Require(!run.Params.TryGetValue(key, out var old) || old == value, "Changing param values is not allowed.");
            run.Params[key] = value.Length <= 6000 ? value : value[..6000];
        }

        foreach (var metric in metrics)
        {
            Require(Name().IsMatch(metric!["key"]!.ToString()), $"Invalid value \"{metric["key"]}\" for parameter 'name' supplied.");
            var value = metric["value"]!.ToString() is "NaN" ? double.NaN : metric["value"]!.GetValue<double>();
            run.Metrics.Add((metric["key"]!.ToString(), value, metric["step"]!.GetValue<long>()));
        }

        Put(run.Tags, body["tags"]);
        return [];
    }

    private JsonObject Inputs(JsonObject body)
    {
        foreach (var data in body["datasets"]!.AsArray())
        {
            Require(data!["dataset"]!["digest"]!.ToString().Length is > 0 and <= 36, "digest exceeds the maximum length of 36 characters");
            Run(body["run_id"]!.ToString()).DataSets.Add($"{data["tags"]![0]!["value"]} {data["dataset"]!["name"]}");
        }

        return [];
    }

    private JsonObject Update(JsonObject body)
    {
        var id = body["run_id"]!.ToString();
        Run(id).Status = body["status"]!.ToString();
        return new JsonObject { ["run_info"] = Info(id) };
    }

    private JsonObject Info(string id)
    {
        var run = Run(id);
        return new JsonObject { ["run_id"] = id, ["experiment_id"] = run.Experiment, ["run_name"] = run.Name, ["status"] = run.Status, ["artifact_uri"] = $"mlflow-artifacts:/{run.Experiment}/{id}/artifacts" };
    }

    private RecordedRun Run(string id) => Runs.TryGetValue(id, out var run) ? run : throw new Refusal(404, "RESOURCE_DOES_NOT_EXIST", $"Run with id={id} not found");

    private static void Put(Dictionary<string, string> tags, JsonNode? list)
    {
        foreach (var tag in list as JsonArray ?? [])
        {
            tags[tag!["key"]!.ToString()] = tag["value"]!.ToString();
        }
    }

    private static void Require(bool isRight, string message)
    {
        if (!isRight)
        {
            throw new Refusal(400, "INVALID_PARAMETER_VALUE", message);
        }
    }

    [GeneratedRegex(@"\A[A-Za-z0-9_\-. :/]+\z")]
    private static partial Regex Name();

    private sealed class Refusal(int status, string code, string message) : Exception(message)
    {
        internal int Status => status;

        internal string Code => code;
    }
}

/// <summary>What a server holds of a run.</summary>
/// <param name="Experiment">Number of its experiment.</param>
/// <param name="Name">Its name.</param>
internal sealed record RecordedRun(string Experiment, string Name)
{
    internal string Status { get; set; } = "RUNNING";

    internal Dictionary<string, string> Params { get; } = [];

    internal Dictionary<string, string> Tags { get; } = [];

    internal List<string> DataSets { get; } = [];

    internal List<(string Key, double Value, long Step)> Metrics { get; } = [];
}
