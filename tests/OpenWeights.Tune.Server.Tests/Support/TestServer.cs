using System.Net;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Testing;
using OpenWeights.Tune.Answering;
using OpenWeights.Tune.Decoding.Engine;
using OpenWeights.Tune.Models.Weights;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Server.Tests;

/// <summary>A server on a free port of this machine, with the quickstart's base or another model.</summary>
internal sealed class TestServer : IAsyncDisposable
{
    internal static readonly string Quickstart = Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base");

    private readonly List<Exception> _failures = [];

    private TestServer(ServerOptions options)
    {
        Server = new AnswerServer(options, _failures.Add);
    }

    internal AnswerServer Server { get; }

    internal LoadedModel Loaded { get; private set; } = null!;

    internal AnswerService Service { get; private set; } = null!;

    internal HttpClient Client { get; private set; } = null!;

    internal Uri Address => Server.Address;

    /// <summary>Unexpected failures so far.</summary>
    internal IReadOnlyList<Exception> Failures => _failures;

    internal static async Task<TestServer> StartAsync(string? model = null, ServerOptions? options = null, string? name = null, TextEngineOptions? engine = null, string? chatTemplate = null)
    {
        var server = new TestServer((options ?? new ServerOptions()) with { Port = 0 });
        await server.Server.StartAsync();
        server.Client = new HttpClient { BaseAddress = server.Server.Address, Timeout = TimeSpan.FromMinutes(5) };
        server.Loaded = ModelLoader.Load(model ?? Quickstart, float32, CPU);
        server.Service = new AnswerService(server.Loaded, new AnswerServiceOptions { Name = name ?? "tiny", Engine = engine ?? new TextEngineOptions(), ChatTemplate = chatTemplate });
        server.Server.Serve(server.Service);
        return server;
    }

    internal async Task<(HttpStatusCode Status, JsonObject Json)> PostAsync(string path, string json, string? key = null)
    {
        using var response = await SendAsync(HttpMethod.Post, path, json, key);
        return (response.StatusCode, JsonNode.Parse(await response.Content.ReadAsStringAsync())!.AsObject());
    }

    /// <summary>The answer to a request that succeeds.</summary>
    internal async Task<JsonObject> AnswerAsync(string path, string json)
    {
        var (status, answer) = await PostAsync(path, json);
        return status == HttpStatusCode.OK ? answer : throw new InvalidOperationException($"{status}: {answer.ToJsonString()}");
    }

    internal async Task<HttpResponseMessage> SendAsync(HttpMethod method, string path, string? json = null, string? key = null, Action<HttpRequestMessage>? change = null)
    {
        using var request = new HttpRequestMessage(method, path) { Content = json is null ? null : new StringContent(json, Encoding.UTF8, "application/json") };
        if (key is not null)
        {
            request.Headers.Add("Authorization", $"Bearer {key}");
        }

        change?.Invoke(request);
        return await Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
    }

    /// <summary>The events of a stream, without the last one, which is required to be [DONE].</summary>
    internal async Task<IReadOnlyList<JsonObject>> StreamAsync(string path, string json)
    {
        using var response = await SendAsync(HttpMethod.Post, path, json);
        var text = await response.Content.ReadAsStringAsync();
        if (response.StatusCode != HttpStatusCode.OK || response.Content.Headers.ContentType?.MediaType != "text/event-stream")
        {
            throw new InvalidOperationException($"{response.StatusCode}: {text}");
        }

        var events = text.Split("\n\n", StringSplitOptions.RemoveEmptyEntries);
        return events[^1] == "data: [DONE]" ? [.. events[..^1].Select(static e => JsonNode.Parse(e["data: ".Length..])!.AsObject())] : throw new JsonException(text);
    }

    public async ValueTask DisposeAsync()
    {
        Client.Dispose();
        await Server.DisposeAsync();
        await Service.DisposeAsync();
        Loaded.Dispose();
    }
}
