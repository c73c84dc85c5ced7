using System.Net;
using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.Gguf;
using OpenWeights.Testing;

namespace OpenWeights.Tune.Server.Tests;

/// <summary>What was recorded of llama.cpp's server, asked of ours with the same model: the words may differ, the shapes do not.</summary>
[TestFixture]
public sealed class RecordedTests
{
    private const string File = "llama-server.json";

    // Of llama.cpp alone, or of one that was started in another way.
    private static readonly string[] s_others = ["/props", "/slots", "/lora-adapters", "/metrics"];

    // Where llama.cpp is poor: the status that is right.
    private static readonly Dictionary<string, int> s_right = new()
    {
        ["broken JSON"] = 400,
        ["tools is a text"] = 400,
        ["an image"] = 400,
        ["GET where POST is meant"] = 405,
        ["embeddings where they are off"] = 200,
    };

    private TemporaryFolder? _folder;
    private TestServer _open = null!;
    private TestServer _closed = null!;

    public static IEnumerable<TestCaseData> Exchanges() => SharedFiles.Find("fixtures", "serving", File) is not { } path ? [new TestCaseData(-1).SetArgDisplayNames("absent")]
        : Read(path).Select(static (e, i) => (Exchange: e, Index: i)).Where(static e => !s_others.Contains(e.Exchange["request"]!["path"]!.ToString()))
            .Select(static e => new TestCaseData(e.Index).SetArgDisplayNames(e.Exchange["note"]!.ToString()));

    [OneTimeSetUp]
    public async Task Start()
    {
        _ = SharedFiles.RequireShared("fixtures", "serving", File);
        var model = Model(SharedFiles.RequireShared("fixtures", "weights", "smollm2-135m-instruct"));
        var engine = new Decoding.Engine.TextEngineOptions { MaxPositions = 512 };
        _open = await TestServer.StartAsync(model, name: "smollm2", engine: engine);
        _closed = await TestServer.StartAsync(model, new ServerOptions { ApiKeys = ["secret"] }, "smollm2", engine);
    }

    [OneTimeTearDown]
    public async Task Stop()
    {
        if (_open is not null)
        {
            await _open.DisposeAsync();
            await _closed.DisposeAsync();
        }

        _folder?.Dispose();
    }

    [TestCaseSource(nameof(Exchanges))]
    public async Task An_answer_has_the_recorded_shape(int index)
    {
        var exchange = Read(SharedFiles.RequireShared("fixtures", "serving", File)).ElementAt(index);
        var (request, note) = (exchange["request"]!, exchange["note"]!.ToString());
        var wantsKey = note.StartsWith("with a key wanted", StringComparison.Ordinal);
        var body = request["body"] switch { null => null, JsonValue text => text.GetValue<string>(), var json => json.ToJsonString() };
        using var response = await (wantsKey ? _closed : _open).SendAsync(
            new HttpMethod(request["method"]!.ToString()), request["path"]!.ToString(), body, wantsKey && request["authorization"]!.GetValue<bool>() ? "wrong" : null);
        var answer = await response.Content.ReadAsStringAsync();
        var recorded = (int)exchange["status"]!;
        Assert.That((int)response.StatusCode, Is.EqualTo(s_right.GetValueOrDefault(note, recorded)), answer);
        if (recorded == 200)
        {
            Assert.That(response.Content.Headers.ContentType!.ToString(), Is.EqualTo(exchange["content_type"]!.ToString()));
            RequireShape(answer, exchange["answer"]!, note);
        }
        else if (response.StatusCode != HttpStatusCode.OK)
        {
            var error = JsonNode.Parse(answer)!["error"]!;
            Assert.That(error["message"]!.ToString(), Is.Not.Empty);
            Assert.That(error["type"]!.ToString(), Is.Not.Empty);
            Assert.That(error.AsObject().ContainsKey("param") && error.AsObject().ContainsKey("code"));
        }
    }

    // The file is stored in parts.
    private string Model(string parts)
    {
        _folder = new TemporaryFolder();
        using (var whole = System.IO.File.Create(_folder["model.gguf"]))
        {
            foreach (var part in Directory.GetFiles(parts, "model-q4_1.gguf.part*").Order(StringComparer.Ordinal))
            {
                using var stream = System.IO.File.OpenRead(part);
                stream.CopyTo(whole);
            }
        }

        GgufFolder.Unpack(_folder["model.gguf"], _folder.Folder("model"));
        return _folder["model"];
    }

    private static void RequireShape(string answer, JsonNode recorded, string note)
    {
        if (recorded is not JsonArray events || events[0]?.GetValueKind() != System.Text.Json.JsonValueKind.String)
        {
            var given = JsonNode.Parse(answer)!;
            var differences = Shape.Differences(given, recorded).Where(d => note != "/v1/models" || !Known(d)).Where(d => !(note == "tools, required" && d.Contains("content", StringComparison.Ordinal)));
            Assert.That(differences, Is.Empty, answer);
            if (note == "tools, required")
            {
                // llama.cpp answered with text.
                var message = given["choices"]![0]!["message"]!;
                Assert.That(message["content"], Is.Null);
                Assert.That(message["tool_calls"]![0]!["function"]!["name"]!.ToString(), Is.EqualTo("get_weather"));
                Assert.That(JsonNode.Parse(message["tool_calls"]![0]!["function"]!["arguments"]!.ToString())!["city"], Is.Not.Null);
            }

            return;
        }

        var (first, expected) = (Events(answer.Split("\n\n", StringSplitOptions.RemoveEmptyEntries)), Events(events.Select(static e => e!.ToString())));
        Assert.That(answer, Does.EndWith("data: [DONE]\n\n"));
        Assert.That(Shape.Differences(first[0], expected[0]), Is.Empty, "first");
        Assert.That(Shape.Differences(first[1], expected[1]), Is.Empty, "second");
        Assert.That(Shape.Differences(first[^1], expected[^1]), Is.Empty, "last");
        Assert.That(Shape.Differences(first[^2], expected[^2]), Is.Empty, "last but one");
    }

    // llama.cpp's list has Ollama's fields too, and describes a file.
    private static bool Known(string difference) => difference.StartsWith("$.models", StringComparison.Ordinal)
        || new[] { "aliases", "tags", "vocab_type", "n_params", "size", "ftype" }.Any(f => difference.Contains(f, StringComparison.Ordinal));

    private static List<JsonNode> Events(IEnumerable<string> lines) => [.. lines.Where(static l => l.StartsWith("data: {", StringComparison.Ordinal)).Select(static l => JsonNode.Parse(l[6..])!)];

    private static IEnumerable<JsonObject> Read(string path) => JsonNode.Parse(System.IO.File.ReadAllText(path))!["exchanges"]!.AsArray().Select(static e => e!.AsObject());
}
