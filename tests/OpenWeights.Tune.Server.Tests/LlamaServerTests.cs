using System.Net;
using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Decoding;

namespace OpenWeights.Tune.Server.Tests;

/// <summary>What tests of llama.cpp's server ask of /completion and of texts, with the model that they use.</summary>
[TestFixture]
public sealed class LlamaServerTests
{
    private const string Prompt = "I believe the meaning of life is";
    private const int Context = 256;
    private TestServer _server = null!;
    private string _model = null!;

    [OneTimeSetUp]
    public async Task Start()
    {
        _model = SharedFiles.Require("fixtures", "weights", "stories260K-hf");
        _server = await TestServer.StartAsync(_model, engine: new Decoding.Engine.TextEngineOptions { MaxPositions = Context }, chatTemplate: NamedTemplates.All["chatml"]);
    }

    [OneTimeTearDown]
    public async Task Stop()
    {
        if (_server is not null)
        {
            await _server.DisposeAsync();
        }
    }

    [Test]
    public async Task A_completion_tells_what_it_read_and_made([Values] bool returnsTokens)
    {
        var answer = await Complete($$"""{"prompt": "{{Prompt}}", "n_predict": 8, "temperature": 0, "return_tokens": {{Json(returnsTokens)}}}""");
        var read = await Tokens(Prompt);
        Assert.That((int)answer["timings"]!["prompt_n"]! + (int)answer["timings"]!["cache_n"]!, Is.EqualTo(read.Count));
        Assert.That((int)answer["tokens_evaluated"]!, Is.EqualTo(read.Count));
        Assert.That((int)answer["timings"]!["predicted_n"]!, Is.EqualTo(8));
        Assert.That((bool)answer["truncated"]!, Is.False);
        Assert.That((bool)answer["has_new_line"]!, Is.EqualTo(answer["content"]!.ToString().Contains('\n', StringComparison.Ordinal)));
        Assert.That(answer["content"]!.ToString(), Does.StartWith(" "), "it goes on from the prompt with a word of its own");
        Assert.That(Prompt + answer["content"], Is.EqualTo(Greedy(Prompt, 8)));
        Assert.That(answer["tokens"]!.AsArray(), Has.Count.EqualTo(returnsTokens ? 8 : 0));
        Assert.That(answer["prompt"]!.ToString(), Is.EqualTo($"<s> {Prompt}"));
    }

    [Test]
    public async Task A_streamed_completion_has_the_same_text_and_tokens_in_every_piece()
    {
        const string request = $$"""{"prompt": "{{Prompt}}", "n_predict": 12, "temperature": 0, "seed": 42""";
        var whole = await Complete(request + "}");
        var pieces = await Stream(request + ", \"stream\": true}");
        Assert.That(string.Concat(pieces.Select(static p => p["content"]!.ToString())), Is.EqualTo(whole["content"]!.ToString()));
        Assert.That(pieces.SkipLast(1).All(static p => !(bool)p["stop"]! && p["tokens"]!.AsArray().Count > 0));
        Assert.That(pieces.SkipLast(1).Sum(static p => p["tokens"]!.AsArray().Count), Is.EqualTo(12));
        var last = pieces[^1];
        Assert.That((bool)last["stop"]!);
        Assert.That(last["stop_type"]!.ToString(), Is.EqualTo("limit"));
        Assert.That((int)last["generation_settings"]!["n_predict"]!, Is.EqualTo(12));
        Assert.That((long)last["generation_settings"]!["seed"]!, Is.EqualTo(42));
    }

    [Test]
    public async Task A_prompt_can_be_text_tokens_and_both_mixed_alone_or_in_a_list()
    {
        var tokens = new JsonArray([.. (await Tokens(Prompt)).Select(static t => (JsonNode)t)]).ToJsonString();
        var text = (await Complete($$"""{"prompt": "{{Prompt}}", "n_predict": 6, "temperature": 0}"""))["content"]!.ToString();
        Assert.That((await Complete($$"""{"prompt": {{tokens}}, "n_predict": 6, "temperature": 0}"""))["content"]!.ToString(), Is.EqualTo(text));
        foreach (var list in new[] { $"[{tokens}, {tokens}]", $"[{tokens}, \"{Prompt}\"]", $$"""[{"prompt_string": "{{Prompt}}"}, "{{Prompt}}"]""" })
        {
            using var response = await _server.SendAsync(HttpMethod.Post, "/completion", $$"""{"prompt": {{list}}, "n_predict": 6, "temperature": 0}""");
            var answers = JsonNode.Parse(await response.Content.ReadAsStringAsync())!.AsArray();
            Assert.That(answers.Select(static a => a!["content"]!.ToString()), Is.EqualTo(new[] { text, text }), list);
        }

        // One sequence: the texts in it are tokens among the others.
        var mixed = await Complete($$"""{"prompt": [1, 2, 3, "{{Prompt}}", 7], "n_predict": 2, "temperature": 0}""");
        Assert.That((int)mixed["tokens_evaluated"]!, Is.EqualTo(4 + Tokenizer.Load(_model).Encode(Prompt, addSpecialTokens: false).Length));
    }

    [TestCase("n_cmpl")]
    [TestCase("n")]
    public async Task Several_answers_to_one_prompt_are_a_list(string field)
    {
        using var response = await _server.SendAsync(HttpMethod.Post, "/completion", $$"""{"prompt": "{{Prompt}}", "n_predict": 8, "temperature": 1, "seed": 3, "{{field}}": 2}""");
        var answers = JsonNode.Parse(await response.Content.ReadAsStringAsync())!.AsArray();
        Assert.That(answers.Select(static a => (int)a!["index"]!), Is.EqualTo(new[] { 0, 1 }));
        Assert.That(answers[0]!["content"]!.ToString(), Is.Not.EqualTo(answers[1]!["content"]!.ToString()));
    }

    [Test]
    public async Task Only_the_fields_that_are_wanted_come()
    {
        var some = await Complete($$"""{"prompt": "{{Prompt}}", "n_predict": 5, "response_fields": ["content", "generation_settings/n_predict", "prompt", "nothing/here"]}""");
        Assert.That(some.Select(static f => f.Key), Is.EquivalentTo(new[] { "content", "generation_settings/n_predict", "prompt" }));
        Assert.That((int)some["generation_settings/n_predict"]!, Is.EqualTo(5));
        var all = await Complete($$"""{"prompt": "{{Prompt}}", "n_predict": 5, "response_fields": []}""");
        Assert.That(all.ContainsKey("generation_settings"));
    }

    [Test]
    public async Task The_likeliest_tokens_come_with_their_log_probabilities([Values] bool isStream)
    {
        var tokens = await Probabilities($$"""{"prompt": "{{Prompt}}", "n_probs": 10, "temperature": 0, "n_predict": 5, "stream": {{Json(isStream)}}}""", isStream);
        Assert.That(tokens, Has.Count.EqualTo(5));
        foreach (var token in tokens)
        {
            Assert.That((float)token["logprob"]!, Is.LessThanOrEqualTo(0));
            Assert.That(token["bytes"]!.AsArray().Select(static b => (byte)(int)b!), Is.EqualTo(System.Text.Encoding.UTF8.GetBytes(token["token"]!.ToString())));
            var top = token["top_logprobs"]!.AsArray();
            Assert.That(top, Has.Count.EqualTo(10));
            Assert.That((int)top[0]!["id"]!, Is.EqualTo((int)token["id"]!), "greedy decoding takes the likeliest");
        }
    }

    [TestCase("\"temperature\": 0", 1)]
    [TestCase("\"temperature\": 1.2, \"seed\": 5, \"top_k\": 3", 3)]
    [TestCase("\"temperature\": 1.2, \"seed\": 5, \"top_p\": 0.00001", 1)]
    public async Task Probabilities_of_the_draw_are_of_the_tokens_that_can_be_drawn(string settings, int possible)
    {
        var tokens = await Probabilities($$"""{"prompt": "{{Prompt}}", "n_probs": 10, "n_predict": 5, "post_sampling_probs": true, {{settings}}}""", isStream: false);
        Assert.That(tokens, Has.Count.EqualTo(5));
        foreach (var token in tokens)
        {
            var top = token["top_probs"]!.AsArray().Select(static t => (float)t!["prob"]!).ToList();
            Assert.That(top, Has.Count.EqualTo(10));
            Assert.That(top.Count(static p => p > 0), Is.EqualTo(possible));
            Assert.That(top.Sum(), Is.EqualTo(1).Within(1e-5));
            Assert.That((float)token["prob"]!, Is.GreaterThan(0));
            Assert.That(token.ContainsKey("logprob"), Is.False);
        }
    }

    [Test]
    public async Task Words_that_are_biased_away_do_not_come([Values] bool asTokens, [Values] bool asObject)
    {
        string[] words = ["the", "a", "to", "was", "and", "is", "he", "she", "it"];
        List<(string Key, JsonNode Value)> banned = asTokens
            ? [.. (await Tokens(" " + string.Join(' ', words) + " ", addsSpecial: false)).Distinct().Select(static t => ($"{t}", (JsonNode)t))]
            : [.. words.Select(static w => ($" {w} ", (JsonNode)$" {w} "))];
        JsonNode bias = asObject
            ? new JsonObject([.. banned.Select(static b => KeyValuePair.Create(b.Key, (JsonNode?)(-100)))])
            : new JsonArray([.. banned.Select(static b => new JsonArray(b.Value, -100))]);
        var text = (await Complete($$"""{"prompt": "What is the best book", "n_predict": 64, "temperature": 0, "logit_bias": {{bias.ToJsonString()}}}"""))["content"]!.ToString();
        Assert.That(words.Where(w => text.Contains($" {w} ", StringComparison.Ordinal)), Is.Empty, text);
    }

    [Test]
    public async Task An_end_token_that_is_ignored_cannot_come_and_is_told()
    {
        var ignored = await Complete("""{"prompt": "Once upon a time", "n_predict": 8, "ignore_eos": true, "temperature": 0}""");
        var biases = ignored["generation_settings"]!["logit_bias"]!.AsArray();
        Assert.That(biases.Select(static b => (int)b!["token"]!), Is.EqualTo(new[] { 2 }));
        Assert.That(biases[0]!.AsObject().ContainsKey("bias") && biases[0]!["bias"] is null);
        var usual = await Complete("""{"prompt": "Once upon a time", "n_predict": 8, "ignore_eos": false, "temperature": 0}""");
        Assert.That(usual["generation_settings"]!["logit_bias"]!.AsArray(), Is.Empty);

        // Even where the model would end, there are as many tokens as may be.
        var story = await Complete("""{"prompt": "Once upon a time", "n_predict": -1, "ignore_eos": true, "temperature": 0, "return_tokens": true}""");
        Assert.That(story["tokens"]!.AsArray().Select(static t => (int)t!), Has.None.EqualTo(2));
        Assert.That((int)story["tokens_evaluated"]! + (int)story["tokens_predicted"]!, Is.EqualTo(Context));
    }

    [TestCase("/completion", "\"n_predict\": 0")]
    [TestCase("/completion", "\"max_tokens\": 0")]
    [TestCase("/v1/completions", "\"max_tokens\": 0")]
    [TestCase("/v1/completions", "\"n_predict\": 0")]
    public async Task No_tokens_read_the_prompt_alone(string path, string field)
    {
        var answer = await _server.AnswerAsync(path, $$"""{"prompt": "{{Prompt}}", {{field}}}""");
        Assert.That((path == "/completion" ? answer["content"] : answer["choices"]![0]!["text"])!.ToString(), Is.Empty);
        Assert.That((int)answer["timings"]!["predicted_n"]!, Is.Zero);
        Assert.That((path == "/completion" ? answer["stop_type"] : answer["choices"]![0]!["finish_reason"])!.ToString(), Is.EqualTo(path == "/completion" ? "limit" : "length"));

        // It is read, so that the same prompt need not be read again.
        var again = await _server.AnswerAsync("/completion", $$"""{"prompt": "{{Prompt}}", "n_predict": 1}""");
        Assert.That((int)again["timings"]!["cache_n"]!, Is.EqualTo((int)again["tokens_evaluated"]! - 1));
    }

    [TestCase("/completion", "\"prompt\": \"Once\", \"n_predict\": -1")]
    [TestCase("/completion", "\"prompt\": \"Once\", \"max_tokens\": -1")]
    [TestCase("/v1/completions", "\"prompt\": \"Once\", \"max_tokens\": -1")]
    [TestCase("/v1/chat/completions", "\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"max_tokens\": -1")]
    [TestCase("/v1/chat/completions", "\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"max_completion_tokens\": -1, \"max_tokens\": 3")]
    public async Task Minus_one_is_no_limit_but_the_context(string path, string fields)
    {
        var answer = await _server.AnswerAsync(path, $$"""{{{fields}}, "ignore_eos": true, "temperature": 0}""");
        var timings = answer["timings"]!;
        Assert.That((int)timings["cache_n"]! + (int)timings["prompt_n"]! + (int)timings["predicted_n"]!, Is.EqualTo(Context));
        Assert.That(path == "/completion" ? (bool)answer["truncated"]! : answer["choices"]![0]!["finish_reason"]!.ToString() == "length");
    }

    [Test]
    public async Task A_prompt_longer_than_the_context_is_refused_and_not_shifted([Values("/completion", "/v1/completions")] string path)
    {
        var (status, answer) = await _server.PostAsync(path, $$"""{"n_predict": 64, "prompt": "{{string.Concat(Enumerable.Repeat("Lorem ipsum dolor sit amet. ", 40))}}"}""");
        Assert.That(status, Is.EqualTo(HttpStatusCode.BadRequest));
        Assert.That(answer["error"]!["message"]!.ToString(), Does.Contain("exceeds the available context size"));
        Assert.That(answer["error"]!["type"]!.ToString(), Is.EqualTo("exceed_context_size_error"));
        Assert.That((int)answer["error"]!["n_prompt_tokens"]!, Is.GreaterThan(Context));
        Assert.That((int)answer["error"]!["n_ctx"]!, Is.EqualTo(Context));
    }

    [Test]
    public async Task Pieces_of_a_text_are_its_tokens_between_others()
    {
        const string text = "This is a test string with unicode 媽 and emoji 🤗";
        var pieces = (await _server.AnswerAsync("/tokenize", $$"""{"content": "{{text}}", "with_pieces": true}"""))["tokens"]!.AsArray();
        Assert.That(pieces.All(static p => (int)p!["id"]! > 0 && (p["piece"] is JsonArray bytes ? bytes.Count > 0 : p["piece"]!.ToString().Length > 0)));
        var bytes = pieces.SelectMany(static p => p!["piece"] is JsonArray list ? [.. list.Select(static b => (byte)(int)b!)] : System.Text.Encoding.UTF8.GetBytes(p["piece"]!.ToString())).ToArray();
        Assert.That(System.Text.Encoding.UTF8.GetString(bytes), Is.EqualTo(" " + text));
        var ids = new JsonArray([.. pieces.Select(static p => (JsonNode)(int)p!["id"]!)]).ToJsonString();
        Assert.That((await _server.AnswerAsync("/detokenize", $$"""{"tokens": {{ids}}}"""))["content"]!.ToString(), Is.EqualTo(text));
    }

    [Test]
    public async Task Special_tokens_of_a_text_are_read_as_such_or_as_text()
    {
        var special = await Tokens("a</s>b", addsSpecial: false);
        var plain = (await _server.AnswerAsync("/tokenize", """{"content": "a</s>b", "parse_special": false}"""))["tokens"]!.AsArray().Select(static t => (int)t!).ToList();
        Assert.That(special, Has.Some.EqualTo(2));
        Assert.That(plain, Has.None.EqualTo(2));
        Assert.That(Tokenizer.Load(_model).Decode(plain, skipSpecialTokens: false), Is.EqualTo("a</s>b"));
    }

    [Test]
    public async Task Texts_and_tokens_are_tokenized_together()
    {
        var mixed = (await _server.AnswerAsync("/tokenize", """{"content": ["Once", 5, "upon"], "add_special": true}"""))["tokens"]!.AsArray().Select(static t => (int)t!).ToList();
        Assert.That(mixed, Is.EqualTo((List<int>)[.. await Tokens("Once"), 5, .. await Tokens("upon", addsSpecial: false)]));
    }

    [TestCase("/detokenize", "{\"tokens\": [512]}", "tokens[0]")]
    [TestCase("/detokenize", "{\"tokens\": [5, -1]}", "tokens[1]")]
    [TestCase("/detokenize", "{}", "tokens")]
    [TestCase("/tokenize", "{\"content\": [\"a\", 100000]}", "content[1]")]
    [TestCase("/tokenize", "{\"content\": {}}", "content")]
    [TestCase("/tokenize", "{}", "content")]
    public async Task An_unknown_token_is_refused(string path, string json, string param)
    {
        var (status, answer) = await _server.PostAsync(path, json);
        Assert.That(status, Is.EqualTo(HttpStatusCode.BadRequest));
        Assert.That(answer["error"]!["param"]!.ToString(), Is.EqualTo(param));
    }

    [TestCase("\"string\"", 1)]
    [TestCase("[12, 34, 56]", 1)]
    [TestCase("[12, 34, \"string\", 56, 78]", 1)]
    [TestCase("[\"string1\", \"string2\"]", 2)]
    [TestCase("[\"string1\", [12, 34, 56]]", 2)]
    [TestCase("[[12, 34, 56], [12, \"string\", 34, 56]]", 2)]
    [TestCase("{\"prompt_string\": \"string\"}", 1)]
    [TestCase("{\"content\": [{\"type\": \"text\", \"text\": \"string\"}]}", 1)]
    [TestCase("[\"string1\", {\"prompt_string\": \"string2\"}, {\"content\": [{\"type\": \"text\", \"text\": \"string3\"}]}]", 3)]
    public async Task Inputs_of_embeddings_can_be_mixed(string input, int count)
    {
        var data = (await _server.AnswerAsync("/v1/embeddings", $$"""{"input": {{input}}}"""))["data"]!.AsArray();
        Assert.That(data.Select(static d => (int)d!["index"]!), Is.EqualTo(Enumerable.Range(0, count)));
    }

    [Test]
    public async Task Parts_of_a_text_embed_as_the_text()
    {
        var data = (await _server.AnswerAsync("/v1/embeddings", """{"input": ["hello world", {"content": [{"type": "text", "text": "hello "}, {"type": "text", "text": "world"}]}]}"""))["data"]!.AsArray();
        Assert.That(data[1]!["embedding"]!.ToJsonString(), Is.EqualTo(data[0]!["embedding"]!.ToJsonString()));
    }

    [TestCase("[]")]
    [TestCase("{\"content\": \"string\"}")]
    [TestCase("{\"content\": [{\"type\": \"input_audio\", \"input_audio\": {}}]}")]
    [TestCase("{\"content\": [{\"type\": \"image_url\", \"image_url\": {\"url\": \"data:image/png;base64,AAAA\"}}]}")]
    [TestCase("{\"prompt_string\": \"a\", \"multimodal_data\": [\"AAAA\"]}")]
    public async Task Inputs_that_are_no_text_are_refused(string input) =>
        Assert.That((await _server.PostAsync("/v1/embeddings", $$"""{"input": {{input}}}""")).Status, Is.EqualTo(HttpStatusCode.BadRequest));

    [Test]
    public async Task An_input_that_is_too_long_is_refused()
    {
        var (status, answer) = await _server.PostAsync("/v1/embeddings", $$"""{"input": "{{string.Concat(Enumerable.Repeat("This is a test ", 512))}}"}""");
        Assert.That(status, Is.EqualTo(HttpStatusCode.BadRequest));
        Assert.That(answer["error"]!["message"]!.ToString(), Does.Contain("too large"));
    }

    [Test]
    public async Task Offsets_of_tokens_that_are_parts_of_a_character_are_the_characters([Values] bool isStream)
    {
        const string text = "a 媽é🤗b";
        var request = $$"""{"prompt": "Once", "max_tokens": 40, "temperature": 0, "logprobs": 1, "grammar": "root ::= \"{{text}}\"", "stream": {{Json(isStream)}}}""";
        var choices = isStream ? (await _server.StreamAsync("/v1/completions", request)).Select(static e => e["choices"]![0]!).ToList() : [(await _server.AnswerAsync("/v1/completions", request))["choices"]![0]!];
        Assert.That(string.Concat(choices.Select(static c => c["text"]!.ToString())), Is.EqualTo(text));
        var logProbs = choices.Where(static c => c["logprobs"] is not null).Select(static c => c["logprobs"]!).ToList();
        var offsets = logProbs.SelectMany(static l => l["text_offset"]!.AsArray().Select(static o => (int)o!)).ToList();
        var bytes = logProbs.SelectMany(static l => l["content"]!.AsArray().Select(static t => t!["bytes"]!.AsArray().Count)).ToList();
        Assert.That(bytes.Sum(), Is.EqualTo(System.Text.Encoding.UTF8.GetByteCount(text)));

        // For each byte of the text, where the character begins that it belongs to.
        var (starts, units) = (new List<int>(), 0);
        foreach (var rune in text.EnumerateRunes())
        {
            starts.AddRange(Enumerable.Repeat(units, rune.Utf8SequenceLength));
            units += rune.Utf16SequenceLength;
        }

        var expected = bytes.Select((_, i) => starts[bytes.Take(i).Sum()]).ToList();
        Assert.That(offsets, Is.EqualTo(expected));
        Assert.That(expected.Distinct().Count(), Is.LessThan(expected.Count), "some tokens are parts of a character");
    }

    [Test]
    public async Task Tokens_that_cannot_come_have_the_least_log_probability_that_JSON_has()
    {
        var answer = await _server.AnswerAsync("/v1/chat/completions", """{"messages": [{"role": "user", "content": "Hi"}], "grammar": "root ::= \"aaaaa\"", "logprobs": true, "top_logprobs": 5, "max_tokens": 8}""");
        Assert.That(answer["choices"]![0]!["message"]!["content"]!.ToString(), Is.EqualTo("aaaaa"));
        Assert.That(answer["choices"]![0]!["logprobs"]!["content"]!.AsArray().SelectMany(static t => t!["top_logprobs"]!.AsArray()).Select(static t => (float)t!["logprob"]!), Has.Some.EqualTo(-9999));
    }

    private static string Json(bool value) => value ? "true" : "false";

    private Task<JsonObject> Complete(string json) => _server.AnswerAsync("/completion", json);

    private async Task<List<JsonObject>> Stream(string json)
    {
        using var response = await _server.SendAsync(HttpMethod.Post, "/completion", json);
        return [.. (await response.Content.ReadAsStringAsync()).Split("\n\n", StringSplitOptions.RemoveEmptyEntries).Select(static e => JsonNode.Parse(e["data: ".Length..])!.AsObject())];
    }

    private async Task<List<JsonObject>> Probabilities(string json, bool isStream)
    {
        List<JsonObject> answers = isStream ? await Stream(json) : [await Complete(json)];
        return [.. answers.SelectMany(static a => a["completion_probabilities"]?.AsArray() ?? []).Select(static p => p!.AsObject())];
    }

    private async Task<List<int>> Tokens(string text, bool addsSpecial = true) =>
        [.. (await _server.AnswerAsync("/tokenize", new JsonObject { ["content"] = text, ["add_special"] = addsSpecial }.ToJsonString()))["tokens"]!.AsArray().Select(static t => (int)t!)];

    // The prompt and its continuation, as owt generate makes them.
    private string Greedy(string prompt, int most)
    {
        var tokenizer = Tokenizer.Load(_model);
        using var loaded = Models.Weights.ModelLoader.Load(_model, TorchSharp.torch.float32, TorchSharp.torch.CPU);
        var made = new TextGenerator(loaded.Model, new GenerationOptions { MaxNewTokens = most, EndTokens = [2] }).Continue([tokenizer.Encode(prompt, addSpecialTokens: true)])[0];
        return tokenizer.Decode([.. tokenizer.Encode(prompt, addSpecialTokens: true), .. made.OutputIds], skipSpecialTokens: true);
    }
}
