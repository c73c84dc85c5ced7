using System.Net;
using System.Text;
using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Tune.Server.Tests;

/// <summary>Who may ask what, and how much.</summary>
[TestFixture]
public sealed class SafetyTests
{
    private const string Hello = """{"messages": [{"role": "user", "content": "five"}], "max_tokens": 2}""";

    [TestCase("0.0.0.0")]
    [TestCase("*")]
    [TestCase("192.168.1.7")]
    [TestCase("::")]
    public void Beyond_this_machine_a_key_is_demanded(string host)
    {
        Assert.That(new ServerOptions { Host = host }.Problem, Does.Contain("--api-key"));
        Assert.That(new ServerOptions { Host = host, ApiKeys = ["k"] }.Problem, Is.Null);
    }

    [TestCase("127.0.0.1")]
    [TestCase("localhost")]
    [TestCase("::1")]
    public void On_this_machine_none_is(string host) => Assert.That(new ServerOptions { Host = host }.Problem, Is.Null);

    [Test]
    public async Task With_a_key_only_health_and_the_page_are_open()
    {
        await using var server = await TestServer.StartAsync(options: new ServerOptions { ApiKeys = ["first", "second"] });
        foreach (var (method, path) in new[] { (HttpMethod.Get, "/v1/models"), (HttpMethod.Get, "/metrics"), (HttpMethod.Post, "/v1/chat/completions"), (HttpMethod.Post, "/tokenize"), (HttpMethod.Post, "/v1/nothing") })
        {
            foreach (var key in new[] { null, "firs", "firstt", "" })
            {
                using var refused = await server.SendAsync(method, path, method == HttpMethod.Post ? Hello : null, key);
                Assert.That(refused.StatusCode, Is.EqualTo(HttpStatusCode.Unauthorized), $"{path} with {key}");
                Assert.That(JsonNode.Parse(await refused.Content.ReadAsStringAsync())!["error"]!["type"]!.ToString(), Is.EqualTo("authentication_error"));
            }
        }

        foreach (var key in new[] { "first", "second" })
        {
            Assert.That((await server.PostAsync("/v1/chat/completions", Hello, key)).Status, Is.EqualTo(HttpStatusCode.OK));
        }

        using var other = await server.SendAsync(HttpMethod.Get, "/v1/models", change: static r => r.Headers.Add("X-Api-Key", "second"));
        Assert.That(other.StatusCode, Is.EqualTo(HttpStatusCode.OK));
        foreach (var path in new[] { "/health", "/v1/health", "/" })
        {
            using var open = await server.SendAsync(HttpMethod.Get, path);
            Assert.That(open.StatusCode, Is.EqualTo(HttpStatusCode.OK), path);
        }
    }

    [Test]
    public async Task Pages_of_others_are_refused_and_allowed_ones_are_told_so()
    {
        await using var server = await TestServer.StartAsync(options: new ServerOptions { CorsOrigins = ["https://friend.example"] });
        using var own = await Ask(server, server.Address.GetLeftPart(UriPartial.Authority));
        using var foreign = await Ask(server, "https://evil.example");
        using var nowhere = await Ask(server, "null");
        using var friend = await Ask(server, "https://friend.example");
        Assert.That(own.StatusCode, Is.EqualTo(HttpStatusCode.OK));
        Assert.That(foreign.StatusCode, Is.EqualTo(HttpStatusCode.Forbidden));
        Assert.That(foreign.Headers.Contains("Access-Control-Allow-Origin"), Is.False);
        Assert.That(nowhere.StatusCode, Is.EqualTo(HttpStatusCode.Forbidden));
        Assert.That(friend.StatusCode, Is.EqualTo(HttpStatusCode.OK));
        Assert.That(friend.Headers.GetValues("Access-Control-Allow-Origin"), Is.EqualTo(new[] { "https://friend.example" }));
        using var asked = await server.SendAsync(HttpMethod.Options, "/v1/chat/completions", change: static r =>
        {
            r.Headers.Add("Origin", "https://friend.example");
            r.Headers.Add("Access-Control-Request-Method", "POST");
            r.Headers.Add("Access-Control-Request-Headers", "authorization,content-type");
        });
        Assert.That(asked.StatusCode, Is.EqualTo(HttpStatusCode.OK));
        Assert.That(asked.Headers.GetValues("Access-Control-Allow-Headers"), Is.EqualTo(new[] { "authorization,content-type" }));

        static Task<HttpResponseMessage> Ask(TestServer server, string origin) => server.SendAsync(HttpMethod.Post, "/v1/chat/completions", Hello, change: r => r.Headers.Add("Origin", origin));
    }

    [Test]
    public async Task A_name_that_was_made_to_mean_this_machine_is_refused()
    {
        await using var server = await TestServer.StartAsync();
        using var rebound = await server.SendAsync(HttpMethod.Get, "/v1/models", change: static r => r.Headers.Host = "evil.example:8080");
        using var local = await server.SendAsync(HttpMethod.Get, "/v1/models", change: static r => r.Headers.Host = "localhost:8080");
        Assert.That(rebound.StatusCode, Is.EqualTo(HttpStatusCode.Forbidden));
        Assert.That(local.StatusCode, Is.EqualTo(HttpStatusCode.OK));
    }

    [Test]
    public async Task A_large_request_is_refused([Values] bool isChunked)
    {
        await using var server = await TestServer.StartAsync(options: new ServerOptions { MaxRequestBytes = 10_000 });
        var body = $$"""{"messages": [{"role": "user", "content": "{{new string('x', 20_000)}}"}]}""";
        using var response = await server.SendAsync(HttpMethod.Post, "/v1/chat/completions", body, change: r => r.Headers.TransferEncodingChunked = isChunked);
        Assert.That(response.StatusCode, Is.EqualTo(HttpStatusCode.RequestEntityTooLarge));
        Assert.That(JsonNode.Parse(await response.Content.ReadAsStringAsync())!["error"]!["code"]!.ToString(), Is.EqualTo("request_too_large"));
    }

    [Test]
    public async Task A_wrong_method_and_an_unknown_path_are_told_in_OpenAIs_shape()
    {
        await using var server = await TestServer.StartAsync();
        using var method = await server.SendAsync(HttpMethod.Get, "/v1/chat/completions");
        using var path = await server.SendAsync(HttpMethod.Post, "/v1/../../etc/passwd", "{}");
        Assert.That(method.StatusCode, Is.EqualTo(HttpStatusCode.MethodNotAllowed));
        Assert.That(method.Content.Headers.Allow, Is.EqualTo(new[] { "POST" }));
        Assert.That(JsonNode.Parse(await method.Content.ReadAsStringAsync())!["error"]!["type"]!.ToString(), Is.EqualTo("invalid_request_error"));
        Assert.That(path.StatusCode, Is.EqualTo(HttpStatusCode.NotFound));
        Assert.That(JsonNode.Parse(await path.Content.ReadAsStringAsync())!["error"]!["message"]!.ToString(), Is.Not.Empty);
    }

    [TestCase("{\"messages\": [{\"role\": \"user\", \"content\": \"\\ud800\"}]}", "messages[0].content")]
    [TestCase("{\"messages\": [{\"role\": \"user\", \"content\": \"hi\", \"x\\udc00\": 1}]}", null)]
    [TestCase("{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"stop\": [\"\\udfff\"]}", "stop[0]")]
    [TestCase("{\"messages\": [{\"role\": \"user\", \"content\": \"\u00ff\"}]}", "messages[0].content")]
    public async Task A_text_that_is_no_Unicode_is_refused(string json, string? param)
    {
        await using var server = await TestServer.StartAsync();

        // Latin-1 is UTF-8 but for the last one's letter.
        using var response = await server.SendAsync(HttpMethod.Post, "/v1/chat/completions", change: r => r.Content = new ByteArrayContent(Encoding.Latin1.GetBytes(json)));
        Assert.That(response.StatusCode, Is.EqualTo(HttpStatusCode.BadRequest));
        var error = JsonNode.Parse(await response.Content.ReadAsStringAsync())!["error"]!;
        Assert.That(error["param"]?.ToString(), Is.EqualTo(param));
        Assert.That(error["message"]!.ToString(), Does.Contain("Unicode"));
        Assert.That(server.Failures, Is.Empty);
    }

    [Test]
    public async Task More_choices_than_there_are_places_are_refused([Values("/v1/chat/completions", "/v1/completions", "/completion")] string path)
    {
        await using var server = await TestServer.StartAsync(engine: new Decoding.Engine.TextEngineOptions { MaxRows = 2, MaxWaiting = 1 });
        var prompt = path.Contains("chat", StringComparison.Ordinal) ? "\"messages\": [{\"role\": \"user\", \"content\": \"five\"}]" : "\"prompt\": \"five\"";
        var (status, answer) = await server.PostAsync(path, $"{{{prompt}, \"n\": 4, \"max_tokens\": 2}}");
        Assert.That(status, Is.EqualTo(HttpStatusCode.BadRequest));
        Assert.That(answer["error"]!["param"]!.ToString(), Is.EqualTo("n"));
        using var possible = await server.SendAsync(HttpMethod.Post, path, $"{{{prompt}, \"n\": 3, \"max_tokens\": 2}}");
        Assert.That(possible.StatusCode, Is.EqualTo(HttpStatusCode.OK));
    }

    [TestCase("/health")]
    [TestCase("/v1/health")]
    public async Task Health_is_asked_for_without_a_body_too(string path)
    {
        await using var server = await TestServer.StartAsync(options: new ServerOptions { ApiKeys = ["k"] });
        using var response = await server.SendAsync(HttpMethod.Head, path);
        Assert.That(response.StatusCode, Is.EqualTo(HttpStatusCode.OK));
        Assert.That(await response.Content.ReadAsByteArrayAsync(), Is.Empty);
    }

    [Test]
    public async Task Before_the_model_is_loaded_health_says_so()
    {
        await using var server = new AnswerServer(new ServerOptions { Port = 0 });
        await server.StartAsync();
        using var client = new HttpClient { BaseAddress = server.Address };
        foreach (var path in new[] { "/health", "/v1/models" })
        {
            using var response = await client.GetAsync(new Uri(path, UriKind.Relative));
            Assert.That(response.StatusCode, Is.EqualTo(HttpStatusCode.ServiceUnavailable));
            Assert.That(JsonNode.Parse(await response.Content.ReadAsStringAsync())!["error"]!["message"]!.ToString(), Is.EqualTo("Loading model"));
        }
    }

    [Test]
    public async Task More_waiting_requests_than_allowed_are_told_when_to_come_back()
    {
        await using var server = await TestServer.StartAsync(engine: new Decoding.Engine.TextEngineOptions { MaxRows = 1, MaxWaiting = 0 });
        const string endless = """{"messages": [{"role": "user", "content": "five"}], "max_tokens": 200, "ignore_eos": true, "stream": true}""";
        using var first = await server.SendAsync(HttpMethod.Post, "/v1/chat/completions", endless);
        using var reader = new StreamReader(await first.Content.ReadAsStreamAsync());
        for (var i = 0; i < 5; i++)
        {
            _ = await reader.ReadLineAsync();
        }

        var statuses = new List<HttpStatusCode>();
        foreach (var isStream in new[] { false, true })
        {
            using var next = await server.SendAsync(HttpMethod.Post, "/v1/chat/completions", endless.Replace("\"stream\": true", $"\"stream\": {(isStream ? "true" : "false")}", StringComparison.Ordinal));
            if (next.StatusCode == HttpStatusCode.TooManyRequests)
            {
                Assert.That(next.Headers.RetryAfter!.Delta, Is.GreaterThan(TimeSpan.Zero));
                Assert.That(JsonNode.Parse(await next.Content.ReadAsStringAsync())!["error"]!["code"]!.ToString(), Is.EqualTo("rate_limit_exceeded"));
            }

            statuses.Add(next.StatusCode);
        }

        Assert.That(statuses, Is.All.EqualTo(HttpStatusCode.TooManyRequests));
    }

    [Test]
    public async Task An_answer_that_takes_too_long_is_ended()
    {
        await using var server = await TestServer.StartAsync(options: new ServerOptions { Timeout = TimeSpan.FromMilliseconds(1) });
        var (status, answer) = await server.PostAsync("/v1/chat/completions", """{"messages": [{"role": "user", "content": "five"}], "max_tokens": 200, "ignore_eos": true}""");
        Assert.That(status, Is.EqualTo(HttpStatusCode.GatewayTimeout));
        Assert.That(answer["error"]!["code"]!.ToString(), Is.EqualTo("timeout"));
    }

    [Test]
    public async Task A_client_that_goes_away_frees_its_place()
    {
        await using var server = await TestServer.StartAsync(engine: new Decoding.Engine.TextEngineOptions { MaxRows = 1 });
        using (var response = await server.SendAsync(HttpMethod.Post, "/v1/chat/completions", """{"messages": [{"role": "user", "content": "five"}], "max_tokens": 220, "ignore_eos": true, "stream": true}"""))
        {
            using var reader = new StreamReader(await response.Content.ReadAsStreamAsync());
            _ = await reader.ReadLineAsync();
        }

        // With one place, an answer is possible only once the other is gone.
        Assert.That((await server.PostAsync("/v1/chat/completions", Hello)).Status, Is.EqualTo(HttpStatusCode.OK));
        await server.Service.DrainAsync();
        Assert.That(server.Service.Status, Has.Property("Running").EqualTo(0).And.Property("Waiting").EqualTo(0));
    }

    [Test]
    public async Task Draining_finishes_what_runs_and_refuses_what_is_new()
    {
        await using var server = await TestServer.StartAsync();
        using var running = await server.SendAsync(HttpMethod.Post, "/v1/chat/completions", """{"messages": [{"role": "user", "content": "five"}], "max_tokens": 100, "ignore_eos": true, "stream": true}""");
        var drained = server.Server.DrainAsync();
        var text = await running.Content.ReadAsStringAsync();
        await drained;
        Assert.That(text, Does.EndWith("data: [DONE]\n\n"));
        Assert.That(text, Does.Contain("\"finish_reason\":\"length\""));
        _ = await Assert.ThrowsAsync<HttpRequestException>(() => server.SendAsync(HttpMethod.Get, "/v1/models"));
    }

    [TestCase("../outside")]
    [TestCase("..")]
    [TestCase(".")]
    [TestCase("a/../../outside")]
    [TestCase("/etc")]
    [TestCase("a//b")]
    [TestCase("a\\..\\outside")]
    [TestCase("nothing")]
    [TestCase("link")]
    [TestCase("inside")]
    public void No_name_of_an_adapter_leads_out_of_its_folder(string name)
    {
        using var folder = new TemporaryFolder();
        _ = folder.Write("outside/adapter_config.json", "{}");
        _ = folder.Write("root/a/adapter_config.json", "{}");
        _ = folder.Write("root/inside/other.txt", "");
        _ = Directory.CreateSymbolicLink(folder.At("root", "link"), folder.At("outside"));
        _ = File.CreateSymbolicLink(folder.At("root", "inside", "adapter_config.json"), folder.At("outside", "adapter_config.json"));
        var folders = new Safety.AdapterFolders(folder["root"]);
        Assert.That(folders.Find("a"), Is.EqualTo(folder.At("root", "a")));
        Assert.That(() => folders.Find(name), Throws.TypeOf<Protocols.OpenAi.RequestException>());
    }

    [Test]
    public async Task Metrics_have_vLLMs_names()
    {
        await using var server = await TestServer.StartAsync(name: $"m{Guid.NewGuid():N}");
        _ = await server.AnswerAsync("/v1/chat/completions", Hello);
        using var response = await server.SendAsync(HttpMethod.Get, "/metrics");
        var lines = (await response.Content.ReadAsStringAsync()).Split('\n').Where(l => l.Contains(server.Service.Base.Name, StringComparison.Ordinal)).ToList();
        Assert.That(response.Content.Headers.ContentType!.MediaType, Is.EqualTo("text/plain"));
        foreach (var name in new[] { "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc", "vllm:generation_tokens_total", "vllm:prompt_tokens_total", "vllm:request_success_total", "vllm:time_to_first_token_seconds_bucket", "vllm:e2e_request_latency_seconds_sum" })
        {
            Assert.That(lines, Has.Some.StartsWith(name + "{"), name);
        }

        Assert.That(lines.Single(static l => l.StartsWith("vllm:time_to_first_token_seconds_bucket", StringComparison.Ordinal) && l.Contains("+Inf", StringComparison.Ordinal)), Does.EndWith(" 1"));
        Assert.That(lines.Single(static l => l.StartsWith("vllm:generation_tokens_total", StringComparison.Ordinal)), Does.Match(@" [12]$"));
    }

    [Test]
    public async Task The_page_is_served_with_a_policy_that_lets_it_reach_nothing_else()
    {
        await using var server = await TestServer.StartAsync();
        using var response = await server.SendAsync(HttpMethod.Get, "/");
        Assert.That(response.Content.Headers.ContentType!.MediaType, Is.EqualTo("text/html"));
        Assert.That(response.Headers.GetValues("Content-Security-Policy").Single(), Does.Contain("default-src 'none'").And.Contain("connect-src 'self'"));
        Assert.That(Encoding.UTF8.GetByteCount(await response.Content.ReadAsStringAsync()), Is.GreaterThan(1000));
    }
}
