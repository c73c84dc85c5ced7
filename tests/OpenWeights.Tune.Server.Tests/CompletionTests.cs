using System.Net;
using System.Text.Json.Nodes;
using NUnit.Framework;

namespace OpenWeights.Tune.Server.Tests;

/// <summary>POST /v1/completions and what is of llama.cpp alone, of the quickstart's base.</summary>
[TestFixture]
public sealed class CompletionTests
{
    private const string Path = "/v1/completions";
    private TestServer _server = null!;

    [OneTimeSetUp]
    public async Task Start() => _server = await TestServer.StartAsync();

    [OneTimeTearDown]
    public async Task Stop() => await _server.DisposeAsync();

    [Test]
    public async Task Several_prompts_and_choices_are_in_order()
    {
        var alone = new List<string>();
        foreach (var prompt in new[] { "January", "five" })
        {
            alone.Add(Text(await _server.AnswerAsync(Path, $"{{\"prompt\": \"{prompt}\", \"temperature\": 0, \"max_tokens\": 6}}"), 0));
        }

        var both = await _server.AnswerAsync(Path, "{\"prompt\": [\"January\", \"five\"], \"n\": 2, \"temperature\": 0, \"max_tokens\": 6}");
        Assert.That(Enumerable.Range(0, 4).Select(i => Text(both, i)), Is.EqualTo(new[] { alone[0], alone[0], alone[1], alone[1] }));
        Assert.That(both["choices"]!.AsArray().Select(static c => (int)c!["index"]!), Is.EqualTo(new[] { 0, 1, 2, 3 }));
    }

    [Test]
    public async Task Tokens_are_a_prompt_as_their_text_is()
    {
        var tokens = (await _server.AnswerAsync("/tokenize", "{\"content\": \"January\", \"add_special\": true}"))["tokens"]!.ToJsonString();
        var (a, b) = (await _server.AnswerAsync(Path, "{\"prompt\": \"January\", \"temperature\": 0}"), await _server.AnswerAsync(Path, $"{{\"prompt\": {tokens}, \"temperature\": 0}}"));
        Assert.That(Text(b, 0), Is.EqualTo(Text(a, 0)));
        Assert.That((int)a["usage"]!["completion_tokens"]!, Is.LessThanOrEqualTo(16), "OpenAI's default");
    }

    [Test]
    public async Task Echo_with_log_probabilities_scores_the_prompt_as_the_model_does([Values] bool isStream)
    {
        var request = $"{{\"prompt\": \"January 5\", \"temperature\": 0, \"max_tokens\": 3, \"echo\": true, \"logprobs\": 2, \"stream\": {(isStream ? "true" : "false")}}}";
        var choices = isStream ? (await _server.StreamAsync(Path, request)).Select(static e => e["choices"]![0]!) : [(await _server.AnswerAsync(Path, request))["choices"]![0]!];
        var all = choices.Where(static c => c["logprobs"] is not null).ToList();
        var tokens = all.SelectMany(static c => c["logprobs"]!["tokens"]!.AsArray().Select(static t => t!.ToString())).ToList();
        var logProbs = all.SelectMany(static c => c["logprobs"]!["token_logprobs"]!.AsArray().Select(static t => (double?)t)).ToList();
        var text = string.Concat(all.Select(static c => c["text"]!.ToString()));
        Assert.That(text, Does.StartWith("January 5"));
        Assert.That(string.Concat(tokens), Is.EqualTo(text));
        Assert.That(logProbs[0], Is.Null);

        // What the model gives for the first token after a shorter prompt is the score of that token in the longer one.
        var ids = (await _server.AnswerAsync("/tokenize", "{\"content\": \"January 5\"}"))["tokens"]!.AsArray().Select(static t => (int)t!).ToList();
        for (var i = 1; i < ids.Count; i++)
        {
            var one = await _server.AnswerAsync(Path, $"{{\"prompt\": [{string.Join(',', ids.Take(i))}], \"temperature\": 0, \"max_tokens\": 1, \"logprobs\": 20, \"ignore_eos\": true}}");
            var top = one["choices"]![0]!["logprobs"]!["content"]![0]!["top_logprobs"]!.AsArray();
            if (top.FirstOrDefault(t => (int)t!["id"]! == ids[i]) is { } same)
            {
                Assert.That(logProbs[i], Is.EqualTo((double)same["logprob"]!).Within(1e-3));
            }
        }

        var offsets = all.SelectMany(static c => c["logprobs"]!["text_offset"]!.AsArray().Select(static t => (int)t!)).ToList();
        Assert.That(offsets.Select((o, i) => text[o..(o + tokens[i].Length)]), Is.EqualTo(tokens));
    }

    [TestCase("{\"prompt\": \"x\", \"suffix\": \"y\"}", "suffix")]
    [TestCase("{\"prompt\": \"x\", \"best_of\": 3}", "best_of")]
    [TestCase("{\"prompt\": \"x\", \"logprobs\": 50}", "logprobs")]
    [TestCase("{\"prompt\": {}}", "prompt")]
    [TestCase("{\"prompt\": []}", "prompt")]
    [TestCase("{\"prompt\": [[-5]]}", "prompt[0][0]")]
    [TestCase("{\"prompt\": [100000]}", "prompt")]
    [TestCase("{}", "prompt")]
    public async Task A_wrong_request_is_refused(string json, string param)
    {
        var (status, answer) = await _server.PostAsync(Path, json);
        Assert.That(status, Is.EqualTo(HttpStatusCode.BadRequest));
        Assert.That(answer["error"]!["param"]!.ToString(), Is.EqualTo(param));
    }

    [Test]
    public async Task Llama_cpps_own_completion_has_its_fields([Values] bool isStream)
    {
        var request = $"{{\"prompt\": \"January\", \"n_predict\": 5, \"temperature\": 0, \"n_probs\": 3, \"return_tokens\": true, \"ignore_eos\": true, \"stream\": {(isStream ? "true" : "false")}}}";
        using var response = await _server.SendAsync(HttpMethod.Post, "/completion", request);
        var text = await response.Content.ReadAsStringAsync();
        List<JsonNode> answers = isStream ? [.. text.Split("\n\n", StringSplitOptions.RemoveEmptyEntries).Select(static e => JsonNode.Parse(e[6..])!)] : [JsonNode.Parse(text)!];
        Assert.That((bool)answers[^1]["stop"]!);
        Assert.That(answers[^1]["stop_type"]!.ToString(), Is.EqualTo("limit"));
        Assert.That((int)answers[^1]["timings"]!["predicted_n"]!, Is.EqualTo(5));
        Assert.That(answers.SelectMany(static a => a["tokens"]!.AsArray()).Count(), Is.EqualTo(5));
        Assert.That(answers.SelectMany(static a => a["completion_probabilities"]?.AsArray() ?? []).Count(), Is.EqualTo(5));
        Assert.That(string.Concat(answers.Select(static a => a["content"]!.ToString())), Is.EqualTo(Text(await _server.AnswerAsync(Path, "{\"prompt\": \"January\", \"max_tokens\": 5, \"temperature\": 0, \"ignore_eos\": true}"), 0)));
    }

    [Test]
    public async Task Tokens_and_their_pieces_give_the_text_again()
    {
        const string text = "May 5 媽 🤗";
        var pieces = (await _server.AnswerAsync("/tokenize", $"{{\"content\": \"{text}\", \"with_pieces\": true}}"))["tokens"]!.AsArray();
        var bytes = pieces.SelectMany(static p => p!["piece"] is JsonArray list ? [.. list.Select(static b => (byte)(int)b!)] : System.Text.Encoding.UTF8.GetBytes(p["piece"]!.ToString())).ToArray();
        Assert.That(System.Text.Encoding.UTF8.GetString(bytes), Is.EqualTo(text));
        var ids = new JsonArray([.. pieces.Select(static p => (JsonNode)(int)p!["id"]!)]);
        Assert.That((await _server.AnswerAsync("/detokenize", $"{{\"tokens\": {ids.ToJsonString()}}}"))["content"]!.ToString(), Is.EqualTo(text));
    }

    [Test]
    public async Task Vectors_have_length_one_and_are_the_same_as_text_or_base64()
    {
        var floats = await _server.AnswerAsync("/v1/embeddings", "{\"input\": [\"January\", \"five\", \"January\"]}");
        var vectors = floats["data"]!.AsArray().Select(static d => d!["embedding"]!.AsArray().Select(static v => (float)v!).ToArray()).ToList();
        Assert.That(vectors, Has.Count.EqualTo(3));
        Assert.That(vectors.Select(static v => v.Sum(static x => x * x)), Is.All.EqualTo(1).Within(1e-4));
        Assert.That(vectors[2], Is.EqualTo(vectors[0]).Within(1e-5));
        Assert.That(vectors[1], Is.Not.EqualTo(vectors[0]).Within(1e-2));
        var coded = await _server.AnswerAsync("/v1/embeddings", "{\"input\": \"January\", \"encoding_format\": \"base64\"}");
        var bytes = Convert.FromBase64String(coded["data"]![0]!["embedding"]!.ToString());
        Assert.That(System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(bytes).ToArray(), Is.EqualTo(vectors[0]).Within(1e-5));
        Assert.That(coded["pooling"]!.ToString(), Is.EqualTo("mean"));
    }

    [TestCase("{\"input\": \"\"}")]
    [TestCase("{\"input\": []}")]
    [TestCase("{}")]
    [TestCase("{\"input\": \"x\", \"dimensions\": 7}")]
    [TestCase("{\"input\": \"x\", \"encoding_format\": \"hex\"}")]
    public async Task Wrong_inputs_of_embeddings_are_refused(string json) => Assert.That((await _server.PostAsync("/v1/embeddings", json)).Status, Is.EqualTo(HttpStatusCode.BadRequest));

    private static string Text(JsonObject answer, int choice) => answer["choices"]![choice]!["text"]!.ToString();
}
