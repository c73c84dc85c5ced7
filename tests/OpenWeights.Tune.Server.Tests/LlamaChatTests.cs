using System.Net;
using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Tune.Decoding.Engine;

namespace OpenWeights.Tune.Server.Tests;

/// <summary>What tests of llama.cpp's server ask of chats.</summary>
[TestFixture]
public sealed class LlamaChatTests
{
    private const string Path = "/v1/chat/completions";
    private const string Tool = """{"type": "function", "function": {"name": "test", "description": "", "parameters": {"type": "object", "properties": {"success": {"type": "boolean", "const": true}}, "required": ["success"]}}}""";
    private TestServer _server = null!;

    [OneTimeSetUp]
    public async Task Start() => _server = await TestServer.StartAsync(engine: new TextEngineOptions { MaxPositions = 2048, PromptChunk = 32 });

    [OneTimeTearDown]
    public async Task Stop() => await _server.DisposeAsync();

    [TestCase("\"Whill\"")]
    [TestCase("[{\"type\": \"text\", \"text\": \"Wh\"}, {\"type\": \"text\", \"text\": \"ill\"}]")]
    public async Task The_prompt_of_an_answer_that_is_begun_ends_with_its_beginning(string begun)
    {
        var messages = $$"""[{"role": "system", "content": "Book"}, {"role": "user", "content": "What is the best book"}, {"role": "assistant", "content": {{begun}}}]""";
        var prompt = (await _server.AnswerAsync("/apply-template", $$"""{"messages": {{messages}}}"""))["prompt"]!.ToString();
        Assert.That(prompt, Does.EndWith("<|im_start|>assistant\nWhill"));

        // The chat goes on from that prompt and no other.
        var chat = await _server.AnswerAsync(Path, $$"""{"messages": {{messages}}, "temperature": 0, "max_tokens": 8}""");
        var text = await _server.AnswerAsync("/v1/completions", new JsonObject { ["prompt"] = prompt, ["temperature"] = 0, ["max_tokens"] = 8 }.ToJsonString());
        Assert.That(chat["choices"]![0]!["message"]!["content"]!.ToString(), Is.EqualTo(text["choices"]![0]!["text"]!.ToString()));
        Assert.That((int)chat["usage"]!["prompt_tokens"]!, Is.EqualTo((int)text["usage"]!["prompt_tokens"]!));
    }

    [Test]
    public async Task A_template_can_be_applied_without_the_beginning_of_an_answer([Values] bool begins, [Values("null", "[]", "[" + Tool + "]")] string tools)
    {
        var prompt = (await _server.AnswerAsync("/apply-template", $$"""{"messages": [{"role": "user", "content": "What is today?"}], "tools": {{tools}}, "add_generation_prompt": {{(begins ? "true" : "false")}}}"""))["prompt"]!.ToString();
        Assert.That(prompt, begins ? Does.EndWith("<|im_start|>assistant\n") : Does.EndWith("What is today?<|im_end|>\n"));
        Assert.That(prompt.Contains("\"test\"", StringComparison.Ordinal), Is.EqualTo(tools.Contains("test", StringComparison.Ordinal)));
    }

    [TestCase("""{"type": "json_object", "schema": {"const": "42"}}""", "^ ?\"42\"$")]
    [TestCase("""{"type": "json_schema", "json_schema": {"schema": {"const": "foooooo"}}}""", "^ ?\"foooooo\"$")]
    [TestCase("""{"type": "json_object", "schema": {"items": [{"type": "integer"}]}}""", @"^ ?\[\s*(-?\d+\s*)?\]?$")]
    [TestCase("""{"type": "json_object"}""", @"^ ?\{")]
    [TestCase("""{"type": "text"}""", "")]
    public async Task A_format_of_the_answer_is_kept_to(string format, string pattern)
    {
        var answer = await _server.AnswerAsync(Path, Ask($"\"response_format\": {format}, \"max_tokens\": 20"));
        Assert.That(Content(answer), Does.Match(pattern));
    }

    [TestCase("""{"type": "sound"}""")]
    [TestCase("""{"type": "json_object", "schema": 123}""")]
    [TestCase("""{"type": "json_object", "schema": {"type": 123}}""")]
    [TestCase("""{"type": "json_object", "schema": {"type": "hiccup"}}""")]
    public async Task A_wrong_format_is_refused(string format)
    {
        var (status, answer) = await _server.PostAsync(Path, Ask($"\"response_format\": {format}"));
        Assert.That(status, Is.EqualTo(HttpStatusCode.BadRequest));
        Assert.That(answer["error"]!["message"]!.ToString(), Does.Not.Contain("#"), "the schema itself needs no path");
    }

    [Test]
    public async Task A_schema_can_be_given_by_itself_and_a_grammar_too()
    {
        Assert.That(Content(await _server.AnswerAsync(Path, Ask("\"json_schema\": {\"const\": \"42\"}, \"max_tokens\": 12"))).Trim(), Is.EqualTo("\"42\""));
        Assert.That(Content(await _server.AnswerAsync(Path, Ask("\"grammar\": \"root ::= \\\"a\\\"{5,5}\", \"max_tokens\": 12"))), Is.EqualTo("aaaaa"));
    }

    [TestCase("null")]
    [TestCase("\"string\"")]
    [TestCase("[123]")]
    [TestCase("[{}]")]
    [TestCase("[{\"role\": 123}]")]
    [TestCase("[{\"role\": \"system\", \"content\": 123}]")]
    [TestCase("[{\"role\": \"system\", \"content\": \"test\"}, {}]")]
    [TestCase("[{\"role\": \"user\", \"content\": \"test\"}, {\"role\": \"assistant\", \"content\": \"test\"}, {\"role\": \"assistant\", \"content\": \"test\"}]")]
    public async Task Messages_that_are_none_are_refused(string messages) =>
        Assert.That((await _server.PostAsync(Path, $$"""{"messages": {{messages}}}""")).Status, Is.EqualTo(HttpStatusCode.BadRequest));

    [TestCase("{", false)]
    [TestCase("{\\\"success\\\": tru}", false)]
    [TestCase("{\\\"success\\\": true}", true)]
    [TestCase("", true)]
    public async Task Arguments_of_an_earlier_call_must_be_JSON(string arguments, bool isRight)
    {
        var (status, answer) = await _server.PostAsync(Path, $$"""
            {"max_tokens": 2, "messages": [{"role": "user", "content": "Hello"},
              {"role": "assistant", "content": null, "tool_calls": [{"id": "call_123", "type": "function", "function": {"name": "test", "arguments": "{{arguments}}"} } ]},
              {"role": "user", "content": "Continue"}]}
            """);
        Assert.That(status, Is.EqualTo(isRight ? HttpStatusCode.OK : HttpStatusCode.BadRequest), answer.ToJsonString());
        if (!isRight)
        {
            Assert.That(answer["error"]!["type"]!.ToString(), Is.EqualTo("invalid_request_error"));
            Assert.That(answer["error"]!["message"]!.ToString(), Does.Contain("message 1").And.Contain("role: assistant"));
        }
    }

    [TestCase("[]", "null")]
    [TestCase("null", "null")]
    [TestCase("[" + Tool + "]", "\"none\"")]
    public async Task Where_no_tool_may_be_called_none_is(string tools, string choice)
    {
        var answer = await _server.AnswerAsync(Path, Ask($"\"tools\": {tools}, \"tool_choice\": {choice}, \"max_tokens\": 8"));
        Assert.That(answer["choices"]![0]!["message"]!.AsObject().ContainsKey("tool_calls"), Is.False);
    }

    // A call begins with a token that nothing else begins with; without it, the format is left.
    [TestCase("json_schema", true)]
    [TestCase("json_schema", false)]
    [TestCase("grammar", true)]
    [TestCase("grammar", false)]
    public async Task With_tools_and_a_format_an_answer_is_a_call_or_keeps_to_the_format(string kind, bool isCall)
    {
        var format = kind == "grammar" ? "\"grammar\": \"root ::= \\\"yes\\\" | \\\"no\\\"\"" : """
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["n"], "additionalProperties": false}}}
            """;
        var first = (await _server.AnswerAsync("/tokenize", """{"content": "<tool_call>"}"""))["tokens"]![0]!;
        var answer = await _server.AnswerAsync(Path, Ask($"{format}, \"tools\": [{Tool}], \"tool_choice\": \"auto\", \"parallel_tool_calls\": false, \"temperature\": 1, \"seed\": 7, \"max_tokens\": 400, \"logit_bias\": [[{first}, {(isCall ? 100 : -100)}]]"));
        var choice = answer["choices"]![0]!;
        var calls = choice["message"]!["tool_calls"]?.AsArray();
        if (isCall)
        {
            Assert.That(choice["finish_reason"]!.ToString(), Is.EqualTo("tool_calls"));
            Assert.That(calls!.Single()!["function"]!["name"]!.ToString(), Is.EqualTo("test"));
            Assert.That((bool)JsonNode.Parse(calls![0]!["function"]!["arguments"]!.ToString())!["success"]!);
            Assert.That(choice["message"]!["content"], Is.Null);
        }
        else
        {
            Assert.That(calls, Is.Null);
            Assert.That(choice["finish_reason"]!.ToString(), Is.EqualTo("stop"));
            Assert.That(kind == "grammar" ? Content(answer) is "yes" or "no" : (int)JsonNode.Parse(Content(answer))!["n"]! is >= 1 and <= 9, Content(answer));
        }
    }

    [TestCase(Path, "\"messages\": [{\"role\": \"user\", \"content\": \"{0}\"}]")]
    [TestCase("/v1/completions", "\"prompt\": \"{0}\"")]
    [TestCase("/completion", "\"prompt\": \"{0}\"")]
    public async Task A_stream_can_tell_how_much_of_the_prompt_is_read(string path, string prompt)
    {
        var text = $"{Guid.NewGuid():N} {string.Concat(Enumerable.Repeat("This is a test ", 20))}";
        var request = "{" + prompt.Replace("{0}", text, StringComparison.Ordinal) + ", \"max_tokens\": 4, \"stream\": true, \"return_progress\": true}";
        var (first, again) = (await Progress(path, request), await Progress(path, request));
        foreach (var (told, isCached) in new[] { (first, false), (again, true) })
        {
            Assert.That(told.Select(static p => p.Total).Distinct().Count(), Is.EqualTo(1));
            Assert.That(told.Select(static p => p.Cache).Distinct().Count(), Is.EqualTo(1));
            Assert.That(told[0].Processed, Is.EqualTo(told[0].Cache), "before anything is read");
            Assert.That(told.Select(static p => p.Processed), Is.Ordered.Ascending.And.Unique);
            Assert.That(told[^1].Processed, Is.EqualTo(told[^1].Total));
            Assert.That(told, Has.Count.EqualTo(1 + ((told[0].Total - told[0].Cache + 31) / 32)), "one after each part that is read");
            Assert.That(told[0].Cache > told[0].Total / 2, Is.EqualTo(isCached));
        }
    }

    [TestCase(Path, "\"messages\": [{\"role\": \"user\", \"content\": \"Count: one two three\"}]")]
    [TestCase("/v1/completions", "\"prompt\": \"Count: one two three\"")]
    [TestCase("/completion", "\"prompt\": \"Count: one two three\"")]
    public async Task A_stream_can_have_the_timings_up_to_each_token(string path, string prompt)
    {
        const int made = 12;
        var request = $$"""{{{prompt}}, "max_tokens": {{made}}, "ignore_eos": true, "temperature": 0, "stream": true""";
        Assert.That((await Events(path, request + "}")).SkipLast(1).Where(static e => e["timings"] is not null), Is.Empty, "only where they are asked for");
        var timings = (await Events(path, request + ", \"timings_per_token\": true}")).Select(static e => e["timings"]).OfType<JsonNode>().ToList();
        var counts = timings.Select(static t => (int)t["predicted_n"]!).ToList();
        Assert.That(counts, Is.Ordered.Ascending);
        Assert.That(counts[0], Is.InRange(1, made / 2), "the first pieces have few tokens");
        Assert.That(counts[^1], Is.EqualTo(made));
        Assert.That(counts.Distinct().Count(), Is.GreaterThan(made / 2));
        Assert.That(timings.Select(static t => (int)t["prompt_n"]! + (int)t["cache_n"]!).Distinct().Count(), Is.EqualTo(1), "the prompt stays");
        Assert.That(timings.Select(static t => (double)t["predicted_ms"]!), Is.Ordered.Ascending);
    }

    private async Task<List<JsonNode>> Events(string path, string request)
    {
        using var response = await _server.SendAsync(HttpMethod.Post, path, request);
        return [.. (await response.Content.ReadAsStringAsync()).Split("\n\n", StringSplitOptions.RemoveEmptyEntries).Where(static e => e != "data: [DONE]").Select(static e => JsonNode.Parse(e["data: ".Length..])!)];
    }

    private async Task<List<(int Total, int Cache, int Processed)>> Progress(string path, string request)
    {
        var events = await Events(path, request);
        return [.. events.Where(static e => e["prompt_progress"] is not null).Select(static e => ((int)e["prompt_progress"]!["total"]!, (int)e["prompt_progress"]!["cache"]!, (int)e["prompt_progress"]!["processed"]!))];
    }

    [Test]
    public async Task Biases_that_leave_nothing_of_a_format_are_told()
    {
        var y = (await _server.AnswerAsync("/tokenize", """{"content": "y"}"""))["tokens"]![0]!;
        var (status, answer) = await _server.PostAsync(Path, Ask($"\"grammar\": \"root ::= \\\"y\\\"\", \"logit_bias\": {{\"{y}\": -100}}"));
        Assert.That(status, Is.EqualTo(HttpStatusCode.BadRequest));
        Assert.That(answer["error"]!["message"]!.ToString(), Does.Contain("biases"));
    }

    private static string Ask(string fields) => $$"""{"messages": [{"role": "system", "content": "You are a coding assistant."}, {"role": "user", "content": "Write an example"}], {{fields}}}""";

    private static string Content(JsonObject answer) => answer["choices"]![0]!["message"]!["content"]!.ToString();
}
