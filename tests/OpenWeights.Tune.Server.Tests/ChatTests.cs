using System.Net;
using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding;

namespace OpenWeights.Tune.Server.Tests;

/// <summary>POST /v1/chat/completions, of the quickstart's base.</summary>
[TestFixture]
public sealed class ChatTests
{
    private const string Path = "/v1/chat/completions";
    private TestServer _server = null!;
    private TestServer _long = null!;

    [OneTimeSetUp]
    public async Task Start()
    {
        _server = await TestServer.StartAsync();

        // Tools take more than the model's context.
        _long = await TestServer.StartAsync(engine: new Decoding.Engine.TextEngineOptions { MaxPositions = 2048 });
    }

    [OneTimeTearDown]
    public async Task Stop()
    {
        await _server.DisposeAsync();
        await _long.DisposeAsync();
    }

    [TestCase("January 5")]
    [TestCase("five")]
    public async Task A_greedy_answer_is_what_the_generator_makes_of_the_same_prompt(string question)
    {
        var answer = await _server.AnswerAsync(Path, Ask(question, "\"temperature\": 0, \"max_tokens\": 24"));
        Assert.That(Content(answer), Is.EqualTo(Greedy(question, 24)));
        Assert.That(answer["object"]!.ToString(), Is.EqualTo("chat.completion"));
        Assert.That(answer["id"]!.ToString(), Does.StartWith("chatcmpl-"));
        Assert.That(answer["model"]!.ToString(), Is.EqualTo("tiny"));
        Assert.That(answer["choices"]![0]!["message"]!["role"]!.ToString(), Is.EqualTo("assistant"));
        var usage = answer["usage"]!;
        Assert.That((int)usage["total_tokens"]!, Is.EqualTo((int)usage["prompt_tokens"]! + (int)usage["completion_tokens"]!));
    }

    [Test]
    public async Task A_stream_has_the_same_text_and_ends_with_its_reason()
    {
        var events = await _server.StreamAsync(Path, Ask("January 5", "\"temperature\": 0, \"max_tokens\": 24, \"stream\": true"));
        Assert.That(events.All(static e => e["object"]!.ToString() == "chat.completion.chunk" && e["usage"] is null));
        Assert.That(events.Select(static e => e["id"]!.ToString()).Distinct().Count(), Is.EqualTo(1));
        Assert.That(Delta(events[0])["role"]!.ToString(), Is.EqualTo("assistant"));
        Assert.That(events.Skip(1).All(static e => !Delta(e).ContainsKey("role")));
        Assert.That(string.Concat(events.Select(static e => Delta(e)["content"]?.ToString())), Is.EqualTo(Greedy("January 5", 24)));
        Assert.That(events.SkipLast(1).All(static e => e["choices"]![0]!.AsObject() is var c && c.ContainsKey("finish_reason") && c["finish_reason"] is null));
        Assert.That(events[^1]["choices"]![0]!["finish_reason"]!.ToString(), Is.EqualTo("stop").Or.EqualTo("length"));
        Assert.That(Delta(events[^1]), Is.Empty);
    }

    [Test]
    public async Task A_stream_with_usage_ends_with_a_chunk_without_choices()
    {
        var events = await _server.StreamAsync(Path, Ask("five", "\"max_tokens\": 3, \"ignore_eos\": true, \"stream\": true, \"stream_options\": {\"include_usage\": true}"));
        Assert.That(events[^1]["choices"]!.AsArray(), Is.Empty);
        Assert.That((int)events[^1]["usage"]!["completion_tokens"]!, Is.EqualTo(3));
    }

    [Test]
    public async Task Choices_differ_and_the_same_seed_gives_the_same_ones()
    {
        var request = Ask("five", "\"temperature\": 1.5, \"seed\": 11, \"n\": 3, \"max_tokens\": 12, \"ignore_eos\": true");
        var (first, second) = (await _server.AnswerAsync(Path, request), await _server.AnswerAsync(Path, request));
        var texts = first["choices"]!.AsArray().Select(static c => c!["message"]!["content"]!.ToString()).ToList();
        Assert.That(texts.Distinct().Count(), Is.EqualTo(3));
        Assert.That(second["choices"]!.AsArray().Select(static c => c!["message"]!["content"]!.ToString()), Is.EqualTo(texts));
        Assert.That((int)first["usage"]!["completion_tokens"]!, Is.EqualTo(36));
    }

    [Test]
    public async Task Streamed_choices_are_those_of_the_whole_answer()
    {
        var fields = "\"temperature\": 1.5, \"seed\": 11, \"n\": 3, \"max_tokens\": 12, \"ignore_eos\": true";
        var whole = await _server.AnswerAsync(Path, Ask("five", fields));
        var events = await _server.StreamAsync(Path, Ask("five", fields + ", \"stream\": true"));
        foreach (var choice in whole["choices"]!.AsArray())
        {
            var index = (int)choice!["index"]!;
            Assert.That(string.Concat(events.Where(e => (int)e["choices"]![0]!["index"]! == index).Select(static e => Delta(e)["content"]?.ToString())), Is.EqualTo(choice["message"]!["content"]!.ToString()));
        }
    }

    [Test]
    public async Task Every_stop_text_cuts_exactly_before_it_wherever_tokens_end([Values] bool isStream)
    {
        var whole = Greedy("January 5", 24);
        Assume.That(whole, Has.Length.GreaterThan(6));
        for (var start = 1; start < Math.Min(whole.Length - 3, 8); start++)
        {
            var stop = whole.Substring(start, 3);
            var request = Ask("January 5", $"\"temperature\": 0, \"max_tokens\": 24, \"stop\": [{JsonValue.Create(stop).ToJsonString()}, \"never this\"], \"stream\": {(isStream ? "true" : "false")}");
            var text = isStream
                ? string.Concat((await _server.StreamAsync(Path, request)).Select(static e => Delta(e)["content"]?.ToString()))
                : Content(await _server.AnswerAsync(Path, request));
            Assert.That(text, Is.EqualTo(whole[..whole.IndexOf(stop, StringComparison.Ordinal)]));
        }
    }

    [Test]
    public async Task Log_probabilities_are_of_the_answers_tokens_likeliest_first()
    {
        var answer = await _server.AnswerAsync(Path, Ask("January 5", "\"temperature\": 0, \"max_tokens\": 8, \"logprobs\": true, \"top_logprobs\": 4"));
        var tokens = answer["choices"]![0]!["logprobs"]!["content"]!.AsArray();
        Assert.That(string.Concat(tokens.Select(static t => t!["token"]!.ToString())), Is.EqualTo(Content(answer)));
        foreach (var token in tokens)
        {
            var top = token!["top_logprobs"]!.AsArray();
            Assert.That(top, Has.Count.EqualTo(4));
            Assert.That((int)top[0]!["id"]!, Is.EqualTo((int)token["id"]!), "greedy decoding takes the likeliest");
            Assert.That(top.Select(static t => (double)t!["logprob"]!), Is.Ordered.Descending);
            Assert.That(top.Sum(static t => Math.Exp((double)t!["logprob"]!)), Is.LessThanOrEqualTo(1.0001));
        }
    }

    [Test]
    public async Task Streamed_log_probabilities_are_those_of_the_whole_answer()
    {
        var fields = "\"temperature\": 0, \"max_tokens\": 16, \"logprobs\": true, \"top_logprobs\": 1";
        var whole = await _server.AnswerAsync(Path, Ask("January 5", fields));
        var events = await _server.StreamAsync(Path, Ask("January 5", fields + ", \"stream\": true"));
        Assert.That(
            events.SelectMany(static e => e["choices"]![0]!["logprobs"]?["content"]?.AsArray() ?? []).Select(static t => (int)t!["id"]!),
            Is.EqualTo(whole["choices"]![0]!["logprobs"]!["content"]!.AsArray().Select(static t => (int)t!["id"]!)));
    }

    [Test]
    public async Task A_banned_token_never_comes()
    {
        var free = await _server.AnswerAsync(Path, Ask("January 5", "\"temperature\": 0, \"max_tokens\": 4, \"logprobs\": true"));
        var first = (int)free["choices"]![0]!["logprobs"]!["content"]![0]!["id"]!;
        var other = await _server.AnswerAsync(Path, Ask("January 5", $"\"temperature\": 0, \"max_tokens\": 4, \"logprobs\": true, \"logit_bias\": {{\"{first}\": -100}}"));
        Assert.That(other["choices"]![0]!["logprobs"]!["content"]!.AsArray().Select(static t => (int)t!["id"]!), Has.None.EqualTo(first));
    }

    [Test]
    public async Task The_second_turn_computes_its_new_tokens_alone()
    {
        var question = $"twelve {Guid.NewGuid():N}";
        var first = await _server.AnswerAsync(Path, Ask(question, "\"temperature\": 0, \"max_tokens\": 8"));
        var messages = $$"""[{"role": "user", "content": "{{question}}"}, {"role": "assistant", "content": {{JsonValue.Create(Content(first)).ToJsonString()}}}, {"role": "user", "content": "and"}]""";
        var second = await _server.AnswerAsync(Path, $$"""{"messages": {{messages}}, "temperature": 0, "max_tokens": 2}""");
        Assert.That((int)second["usage"]!["prompt_tokens_details"]!["cached_tokens"]!, Is.GreaterThanOrEqualTo((int)first["usage"]!["prompt_tokens"]! - 1));
    }

    [Test]
    public async Task An_answer_that_is_begun_is_continued()
    {
        var whole = Greedy("January 5", 24);
        var answer = await _server.AnswerAsync(Path, $$"""
            {"messages": [{"role": "user", "content": "January 5"}, {"role": "assistant", "content": {{JsonValue.Create(whole[..3]).ToJsonString()}}}], "temperature": 0, "max_tokens": 24}
            """);
        Assert.That(answer["usage"]!["prompt_tokens"]!.GetValue<int>(), Is.GreaterThan(0));
        var applied = await _server.AnswerAsync("/apply-template", $$"""{"messages": [{"role": "user", "content": "January 5"}, {"role": "assistant", "content": {{JsonValue.Create(whole[..3]).ToJsonString()}}}]}""");
        Assert.That(applied["prompt"]!.ToString(), Does.EndWith("<|im_start|>assistant\n" + whole[..3]));
    }

    [Test]
    public async Task A_json_schema_is_kept_to_whatever_the_model_would_say()
    {
        var answer = await _server.AnswerAsync(Path, Ask("five", """
            "temperature": 1, "seed": 3, "max_tokens": 200, "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema":
              {"type": "object", "properties": {"kind": {"enum": ["a", "b"]}, "n": {"type": "integer", "minimum": 1, "maximum": 99}}, "required": ["kind", "n"], "additionalProperties": false}}}
            """));
        var json = JsonNode.Parse(Content(answer))!.AsObject();
        Assert.That(json["kind"]!.ToString(), Is.AnyOf("a", "b"));
        Assert.That((int)json["n"]!, Is.InRange(1, 99));
        Assert.That(answer["choices"]![0]!["finish_reason"]!.ToString(), Is.EqualTo("stop"));
    }

    [Test]
    public async Task A_grammar_is_kept_to()
    {
        var answer = await _server.AnswerAsync(Path, Ask("five", "\"temperature\": 0, \"max_tokens\": 20, \"grammar\": \"root ::= \\\"yes\\\" | \\\"no\\\"\""));
        Assert.That(Content(answer), Is.AnyOf("yes", "no"));
    }

    private const string Tools = """
        "tools": [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["city", "days"], "additionalProperties": false}}},
                  {"type": "function", "function": {"name": "get_time"}}]
        """;

    [TestCase("\"required\"")]
    [TestCase("{\"type\": \"function\", \"function\": {\"name\": \"get_weather\"}}")]
    public async Task A_call_that_is_required_comes_whatever_the_model_would_say(string choice)
    {
        foreach (var isStream in new[] { false, true })
        {
            var request = Ask("five", $"{Tools}, \"tool_choice\": {choice}, \"parallel_tool_calls\": false, \"temperature\": 1, \"seed\": 5, \"max_tokens\": 600, \"stream\": {(isStream ? "true" : "false")}");
            var (calls, reason) = isStream ? Streamed(await _long.StreamAsync(Path, request)) : Whole(await _long.AnswerAsync(Path, request));
            Assert.That(reason, Is.EqualTo("tool_calls"));
            Assert.That(calls, Has.Count.EqualTo(1));
            Assert.That(calls[0].Id, Is.Not.Empty);
            Assert.That(calls[0].Name, choice == "\"required\"" ? Is.AnyOf("get_weather", "get_time") : Is.EqualTo("get_weather"));
            if (calls[0].Name == "get_weather")
            {
                var arguments = JsonNode.Parse(calls[0].Arguments)!;
                Assert.That(arguments["city"]!.ToString(), Is.AnyOf("Paris", "Rome"));
                Assert.That((int)arguments["days"]!, Is.InRange(1, 9));
            }
        }

        static (List<(string Id, string Name, string Arguments)> Calls, string Reason) Whole(JsonObject answer)
        {
            var choice = answer["choices"]![0]!;
            Assert.That(choice["message"]!["content"], Is.Null);
            return ([.. choice["message"]!["tool_calls"]!.AsArray().Select(static c => (c!["id"]!.ToString(), c["function"]!["name"]!.ToString(), c["function"]!["arguments"]!.ToString()))], choice["finish_reason"]!.ToString());
        }

        static (List<(string Id, string Name, string Arguments)> Calls, string Reason) Streamed(IReadOnlyList<JsonObject> events)
        {
            var calls = events.SelectMany(static e => Delta(e)["tool_calls"]?.AsArray() ?? []).GroupBy(static c => (int)c!["index"]!);
            return ([.. calls.Select(static c => (c.First()!["id"]!.ToString(), c.First()!["function"]!["name"]!.ToString(), string.Concat(c.Select(static p => p!["function"]!["arguments"]!.ToString()))))], events[^1]["choices"]![0]!["finish_reason"]!.ToString());
        }
    }

    [Test]
    public async Task A_named_function_is_called_once_even_where_several_calls_may_be([Values] bool isStream)
    {
        var request = Ask("five", $"{Tools}, \"tool_choice\": {{\"type\": \"function\", \"function\": {{\"name\": \"get_weather\"}}}}, \"parallel_tool_calls\": true, \"temperature\": 1, \"seed\": 6, \"max_tokens\": 1500, \"stream\": {(isStream ? "true" : "false")}");
        var calls = isStream
            ? [.. (await _long.StreamAsync(Path, request)).SelectMany(static e => Delta(e)["tool_calls"]?.AsArray() ?? []).Select(static c => (int)c!["index"]!).Distinct()]
            : (await _long.AnswerAsync(Path, request))["choices"]![0]!["message"]!["tool_calls"]!.AsArray().Select(static (_, i) => i).ToList();
        Assert.That(calls, Is.EqualTo(new[] { 0 }));
    }

    [Test]
    public async Task Tools_that_may_not_be_called_are_not()
    {
        var answer = await _server.AnswerAsync(Path, Ask("five", $"{Tools}, \"tool_choice\": \"none\", \"temperature\": 0, \"max_tokens\": 8"));
        Assert.That(Content(answer), Is.EqualTo(Greedy("five", 8)));
    }

    [TestCase("{\"messages\": [", null)]
    [TestCase("[]", null)]
    [TestCase("", null)]
    [TestCase("{}", "messages")]
    [TestCase("{\"messages\": \"hello\"}", "messages")]
    [TestCase("{\"messages\": []}", "messages")]
    [TestCase("{\"messages\": [123]}", "messages[0]")]
    [TestCase("{\"messages\": [{}]}", "messages[0].role")]
    [TestCase("{\"messages\": [{\"role\": 123}]}", "messages[0].role")]
    [TestCase("{\"messages\": [{\"role\": \"user\"}]}", "messages[0].content")]
    [TestCase("{\"messages\": [{\"role\": \"usr\", \"content\": \"x\"}]}", "messages[0].role")]
    [TestCase("{\"messages\": [{\"role\": \"user\", \"content\": 5}]}", "messages[0].content")]
    [TestCase("{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\", \"image_url\": {\"url\": \"file:///etc/passwd\"}}]}]}", "messages[0].content[0]")]
    [TestCase("{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}, {\"role\": \"assistant\", \"content\": \"c\"}]}", "messages")]
    [TestCase("{\"temperature\": 3}", "temperature")]
    [TestCase("{\"temperature\": -0.1}", "temperature")]
    [TestCase("{\"temperature\": \"hot\"}", "temperature")]
    [TestCase("{\"top_p\": 1.1}", "top_p")]
    [TestCase("{\"min_p\": 2}", "min_p")]
    [TestCase("{\"top_k\": -2}", "top_k")]
    [TestCase("{\"n\": 0}", "n")]
    [TestCase("{\"n\": 100000}", "n")]
    [TestCase("{\"max_tokens\": 0}", "max_tokens")]
    [TestCase("{\"max_tokens\": 1.5}", "max_tokens")]
    [TestCase("{\"max_completion_tokens\": -2}", "max_completion_tokens")]
    [TestCase("{\"presence_penalty\": 2.5}", "presence_penalty")]
    [TestCase("{\"frequency_penalty\": -2.5}", "frequency_penalty")]
    [TestCase("{\"repetition_penalty\": 0}", "repetition_penalty")]
    [TestCase("{\"logprobs\": true, \"top_logprobs\": 21}", "top_logprobs")]
    [TestCase("{\"top_logprobs\": 2}", "top_logprobs")]
    [TestCase("{\"logit_bias\": {\"5\": 101}}", "logit_bias")]
    [TestCase("{\"logit_bias\": {\"99999999\": 1}}", "logit_bias")]
    [TestCase("{\"logit_bias\": 4}", "logit_bias")]
    [TestCase("{\"stop\": 5}", "stop")]
    [TestCase("{\"stop\": [\"\"]}", "stop")]
    [TestCase("{\"stop\": [1]}", "stop")]
    [TestCase("{\"stream_options\": {\"include_usage\": true}}", "stream_options")]
    [TestCase("{\"tools\": \"x\"}", "tools")]
    [TestCase("{\"tools\": [5]}", "tools[0]")]
    [TestCase("{\"tools\": [{\"type\": \"function\"}]}", "tools[0].function.name")]
    [TestCase("{\"tool_choice\": \"required\"}", "tool_choice")]
    [TestCase("{\"tool_choice\": \"sometimes\"}", "tool_choice")]
    [TestCase("{\"response_format\": {\"type\": \"sound\"}}", "response_format.type")]
    [TestCase("{\"response_format\": {\"type\": \"json_schema\"}}", "response_format.json_schema")]
    [TestCase("{\"response_format\": {\"type\": \"json_object\", \"schema\": 123}}", "response_format.schema")]
    [TestCase("{\"response_format\": {\"type\": \"json_schema\", \"json_schema\": {\"name\": \"x\", \"schema\": {\"type\": \"nonsense\"}}}}", "response_format")]
    [TestCase("{\"grammar\": \"root ::= (\"}", "grammar")]
    [TestCase("{\"reasoning_effort\": \"much\"}", "reasoning_effort")]
    [TestCase("{\"chat_template_kwargs\": {\"messages\": 1}}", "chat_template_kwargs")]
    public async Task A_wrong_request_is_refused_with_the_field_that_is_wrong(string json, string? param)
    {
        var isField = param is not null && !json.Contains("\"messages\"", StringComparison.Ordinal) && json != "{}";
        var request = isField || param == "chat_template_kwargs" ? "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], " + json[1..] : json;
        var (status, answer) = await _server.PostAsync(Path, request);
        Assert.That(status, Is.EqualTo(HttpStatusCode.BadRequest), answer.ToJsonString());
        var error = answer["error"]!.AsObject();
        Assert.That(error["message"]!.ToString(), Is.Not.Empty);
        Assert.That(error["type"]!.ToString(), Is.EqualTo("invalid_request_error"));
        Assert.That(error["param"]?.ToString(), Is.EqualTo(param));
        Assert.That(error.ContainsKey("code"));
    }

    [Test]
    public async Task A_prompt_longer_than_the_context_is_refused([Values] bool isStream)
    {
        var (status, answer) = await _server.PostAsync(Path, Ask(string.Concat(Enumerable.Repeat("five ", 400)), $"\"stream\": {(isStream ? "true" : "false")}"));
        Assert.That(status, Is.EqualTo(HttpStatusCode.BadRequest));
        Assert.That(answer["error"]!["code"]!.ToString(), Is.EqualTo("context_length_exceeded"));
        Assert.That((int)answer["error"]!["n_ctx"]!, Is.EqualTo(256));
    }

    private static string Ask(string question, string fields) => $$"""{"model": "tiny", "messages": [{"role": "user", "content": "{{question}}"}], {{fields}}}""";

    private static string Content(JsonObject answer) => answer["choices"]![0]!["message"]!["content"]!.ToString();

    private static JsonObject Delta(JsonObject chunk) => chunk["choices"]![0]!["delta"]!.AsObject();

    // As owt generate makes it.
    private static string Greedy(string question, int most)
    {
        var tokenizer = Tokenizer.Load(TestServer.Quickstart);
        using var loaded = Models.Weights.ModelLoader.Load(TestServer.Quickstart, TorchSharp.torch.float32, TorchSharp.torch.CPU);
        var prompt = tokenizer.Encode($"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n", addSpecialTokens: false);
        var made = new TextGenerator(loaded.Model, new GenerationOptions { MaxNewTokens = most, EndTokens = EndTokens.Of(loaded.Folder, tokenizer) }).Continue([prompt])[0];
        return tokenizer.Decode(made.OutputIds, skipSpecialTokens: true);
    }
}
