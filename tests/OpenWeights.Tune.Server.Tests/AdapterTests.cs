using System.Net;
using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models.Weights;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Server.Tests;

/// <summary>Adapters that come and go while the server runs.</summary>
[TestFixture]
public sealed class AdapterTests
{
    private TemporaryFolder _folder = null!;
    private TestServer _server = null!;

    [OneTimeSetUp]
    public async Task Start()
    {
        _folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TestServer.Quickstart, float32, CPU);
        Write(loaded, "one", 1);
        Write(loaded, "deep/two", 2);
        _server = await TestServer.StartAsync(options: new ServerOptions { AdaptersBelow = _folder["adapters"] });
    }

    [OneTimeTearDown]
    public async Task Stop()
    {
        await _server.DisposeAsync();
        _folder.Dispose();
    }

    [Test]
    public async Task An_adapter_is_loaded_answers_and_is_unloaded()
    {
        var before = await Ask("tiny");
        Assert.That((await Post("/v1/load_lora_adapter", """{"lora_name": "one", "lora_path": "one"}""")).Status, Is.EqualTo(HttpStatusCode.OK));
        Assert.That((await Post("/v1/load_lora_adapter", """{"lora_name": "second", "lora_path": "deep/two"}""")).Status, Is.EqualTo(HttpStatusCode.OK));
        var models = await Models();
        Assert.That(models.Select(static m => m["id"]!.ToString()), Is.EqualTo(new[] { "tiny", "one", "second" }));
        Assert.That(models.Select(static m => m["parent"]?.ToString()), Is.EqualTo(new[] { null, "tiny", "tiny" }));
        Assert.That(models.Select(static m => m["root"]!.ToString()), Has.None.Contain("/"), "paths of the machine are not told");

        // Together in one batch each answers as it does alone.
        var together = await Task.WhenAll(Enumerable.Range(0, 6).Select(i => Ask(new[] { "tiny", "one", "second" }[i % 3])));
        Assert.That(together[0], Is.EqualTo(before));
        Assert.That(together[..3].Distinct().Count(), Is.EqualTo(3), "each answers in another way");
        var (first, again) = (together[..3], together[3..]);
        Assert.That(again, Is.EqualTo(first));
        Assert.That(together[1], Is.EqualTo(Alone("one")));

        Assert.That((await Post("/v1/unload_lora_adapter", """{"lora_name": "one"}""")).Status, Is.EqualTo(HttpStatusCode.OK));
        var (status, gone) = await _server.PostAsync("/v1/chat/completions", """{"model": "one", "messages": [{"role": "user", "content": "five"}]}""");
        Assert.That(status, Is.EqualTo(HttpStatusCode.NotFound));
        Assert.That(gone["error"]!["code"]!.ToString(), Is.EqualTo("model_not_found"));

        // Another adapter of the same name is not taken for the first one.
        Assert.That((await Post("/v1/load_lora_adapter", """{"lora_name": "one", "lora_path": "deep/two"}""")).Status, Is.EqualTo(HttpStatusCode.OK));
        Assert.That(await Ask("one"), Is.EqualTo(together[2]));
        Assert.That(await Ask("tiny"), Is.EqualTo(before));
    }

    [Test]
    public async Task A_request_can_name_its_adapter_by_number_as_llama_cpp_has_it()
    {
        await using var server = await TestServer.StartAsync(options: new ServerOptions { AdaptersBelow = _folder["adapters"] });
        foreach (var (name, path) in new[] { ("x", "one"), ("y", "deep/two") })
        {
            Assert.That((await server.SendAsync(HttpMethod.Post, "/v1/load_lora_adapter", $$"""{"lora_name": "{{name}}", "lora_path": "{{path}}"}""")).StatusCode, Is.EqualTo(HttpStatusCode.OK));
        }

        var listed = JsonNode.Parse(await server.Client.GetStringAsync(new Uri("/lora-adapters", UriKind.Relative)))!.AsArray();
        Assert.That(listed.Select(static a => ((int)a!["id"]!, a["path"]!.ToString(), (double)a["scale"]!)), Is.EqualTo(new[] { (0, "x", 0.0), (1, "y", 0.0) }));
        async Task<string> Text(string fields) =>
            (await server.AnswerAsync("/v1/completions", $$"""{"prompt": "five", "max_tokens": 12, "temperature": 0, {{fields}}}"""))["choices"]![0]!["text"]!.ToString();
        string[] named = [await Text("\"model\": \"tiny\""), await Text("\"model\": \"x\""), await Text("\"model\": \"y\"")];
        Assert.That(named, Is.Unique);
        Assert.That(await Text("""  "lora": []  """), Is.EqualTo(named[0]));
        Assert.That(await Text("""  "lora": [{"id": 0, "scale": 1}]  """), Is.EqualTo(named[1]));
        Assert.That(await Text("""  "lora": [{"id": 0, "scale": 0.0}, {"id": 1, "scale": 1.0}]  """), Is.EqualTo(named[2]));
        foreach (var wrong in new[] { """{"id": 2, "scale": 1}""", """{"id": 0, "scale": 0.5}""", """{"scale": 1}""", """{"id": 0, "scale": 1}, {"id": 1, "scale": 1}""" })
        {
            var (status, answer) = await server.PostAsync("/v1/completions", $$"""{"prompt": "five", "lora": [{{wrong}}]}""");
            Assert.That(status, Is.EqualTo(HttpStatusCode.BadRequest), wrong);
            Assert.That(answer["error"]!["param"]!.ToString(), Is.EqualTo("lora"));
        }
    }

    [Test]
    public async Task With_a_key_the_list_of_models_has_links_to_reports_that_need_none()
    {
        const string page = "<!doctype html><title>run</title>";
        using var folder = new TemporaryFolder();
        using (var loaded = ModelLoader.Load(TestServer.Quickstart, float32, CPU))
        {
            foreach (var name in new[] { "a b", "other" })
            {
                using var adapter = PeftAdapter.Create(loaded.Model, new LoraConfig { Rank = 2, Alpha = 2 }, 1);
                PeftFolder.Save(adapter, folder.At("runs", name, "adapter"), baseModel: null);
                File.WriteAllText(folder.At("runs", name, "report.html"), page);
                File.WriteAllText(folder.At("runs", name, "manifest.json"), "{}");
            }
        }

        await using var server = await TestServer.StartAsync(options: new ServerOptions { AdaptersBelow = folder["runs"], ApiKeys = ["secret"] });
        foreach (var name in new[] { "a b", "other" })
        {
            Assert.That((await server.SendAsync(HttpMethod.Post, "/v1/load_lora_adapter", $$"""{"lora_name": "{{name}}", "lora_path": "{{name}}/adapter"}""", "secret")).StatusCode, Is.EqualTo(HttpStatusCode.OK));
        }

        using var list = await server.SendAsync(HttpMethod.Get, "/v1/models", key: "secret");
        var links = JsonNode.Parse(await list.Content.ReadAsStringAsync())!["data"]!.AsArray().Select(static m => m!["report"]?.ToString()).OfType<string>().ToList();
        Assert.That(links, Has.Count.EqualTo(2));
        foreach (var link in links)
        {
            using var report = await server.SendAsync(HttpMethod.Get, link);
            Assert.That(await report.Content.ReadAsStringAsync(), Is.EqualTo(page), link);
        }

        var (path, ticket) = (links[1][..links[1].IndexOf('?', StringComparison.Ordinal)], links[0][links[0].IndexOf('?', StringComparison.Ordinal)..]);
        foreach (var wrong in new[] { path, path + ticket, path + "?ticket=", "/v1/models" + ticket })
        {
            using var refused = await server.SendAsync(HttpMethod.Get, wrong);
            Assert.That(refused.StatusCode, Is.EqualTo(HttpStatusCode.Unauthorized), wrong);
        }
    }

    [TestCase("""{"lora_name": "x", "lora_path": "../../datasets"}""", HttpStatusCode.BadRequest)]
    [TestCase("""{"lora_name": "x", "lora_path": "nothing"}""", HttpStatusCode.BadRequest)]
    [TestCase("""{"lora_name": "x", "lora_path": "deep"}""", HttpStatusCode.BadRequest)]
    [TestCase("""{"lora_name": "tiny", "lora_path": "one"}""", HttpStatusCode.BadRequest)]
    [TestCase("""{"lora_path": "one"}""", HttpStatusCode.BadRequest)]
    [TestCase("""{"lora_name": 5}""", HttpStatusCode.BadRequest)]
    public async Task A_wrong_adapter_is_refused(string json, HttpStatusCode expected)
    {
        using var response = await _server.SendAsync(HttpMethod.Post, "/v1/load_lora_adapter", json);
        Assert.That(response.StatusCode, Is.EqualTo(expected));
        Assert.That(await response.Content.ReadAsStringAsync(), Does.Not.Contain(_folder.Root), "paths of the machine are not told");
    }

    [Test]
    public async Task The_base_is_not_unloaded_and_an_unknown_name_is_not_there()
    {
        Assert.That((await Post("/v1/unload_lora_adapter", """{"lora_name": "tiny"}""")).Status, Is.EqualTo(HttpStatusCode.BadRequest));
        Assert.That((await Post("/v1/unload_lora_adapter", """{"lora_name": "never"}""")).Status, Is.EqualTo(HttpStatusCode.NotFound));
    }

    [Test]
    public async Task An_adapter_with_more_tokens_has_its_own_tokenizer()
    {
        const string word = "<|new|>";
        var (small, large) = TokenizerFiles(word);
        using var folder = new TemporaryFolder();
        foreach (var file in Directory.EnumerateFiles(TestServer.Quickstart))
        {
            File.Copy(file, Path.Combine(folder.Folder("base"), Path.GetFileName(file)));
        }

        File.WriteAllText(folder.At("base", "tokenizer.json"), small);
        File.WriteAllText(_folder.At("adapters", "one", "tokenizer.json"), large);
        try
        {
            await using var server = await TestServer.StartAsync(folder["base"], new ServerOptions { AdaptersBelow = _folder["adapters"] });
            foreach (var name in new[] { "one", "deep/two" })
            {
                using var loaded = await server.SendAsync(HttpMethod.Post, "/v1/load_lora_adapter", $$"""{"lora_name": "{{name}}"}""");
                Assert.That(loaded.StatusCode, Is.EqualTo(HttpStatusCode.OK));
            }

            Assert.That(await Tokens("one"), Is.EqualTo(new[] { 511 }));
            Assert.That(await Tokens("tiny"), Has.Length.GreaterThan(1));
            Assert.That(await Tokens("deep/two"), Is.EqualTo(await Tokens("tiny")));

            // It reads and writes the token.
            var answer = await server.AnswerAsync("/v1/chat/completions", $$"""{"model": "one", "messages": [{"role": "user", "content": "{{word}}"}], "logit_bias": {"511": 100}, "temperature": 0, "max_tokens": 2}""");
            Assert.That(answer["choices"]![0]!["message"]!["content"]!.ToString(), Is.EqualTo(word + word));
            var prompt = (await server.AnswerAsync("/apply-template", $$"""{"model": "one", "messages": [{"role": "user", "content": "{{word}}"}]}"""))["prompt"]!.ToString();
            Assert.That(prompt, Is.EqualTo($"<|im_start|>user\n{word}<|im_end|>\n<|im_start|>assistant\n"), "the base's template");

            async Task<int[]> Tokens(string model) => [.. (await server.AnswerAsync("/tokenize", $$"""{"model": "{{model}}", "content": "{{word}}"}"""))["tokens"]!.AsArray().Select(static t => (int)t!)];
        }
        finally
        {
            File.Delete(_folder.At("adapters", "one", "tokenizer.json"));
        }
    }

    [Test]
    public async Task An_adapter_with_a_vocabulary_of_its_own_is_refused_and_told_what_to_do()
    {
        using (var loaded = ModelLoader.Load(TestServer.Quickstart, float32, CPU))
        {
            using var adapter = PeftAdapter.Create(loaded.Model, new LoraConfig { Rank = 4, Alpha = 8, VocabularySize = 520 }, 3);
            PeftFolder.Save(adapter, _folder.At("adapters", "grown"), baseModel: null);
        }

        var (status, text) = await Post("/v1/load_lora_adapter", """{"lora_name": "grown"}""");
        Assert.That(status, Is.EqualTo(HttpStatusCode.BadRequest), text);
        Assert.That(text, Does.Contain("vocabulary").And.Contain("owt export"));
        Assert.That((await Models()).Select(static m => m["id"]!.ToString()), Has.None.EqualTo("grown"));
    }

    // The quickstart's tokenizer without its last word, and with another one in its place.
    private static (string Small, string Large) TokenizerFiles(string word)
    {
        var tokenizer = JsonNode.Parse(File.ReadAllText(Path.Combine(TestServer.Quickstart, "tokenizer.json")))!;
        var model = tokenizer["model"]!;
        var last = model["vocab"]!.AsObject().Single(static v => (int)v.Value! == 511).Key;
        _ = model["vocab"]!.AsObject().Remove(last);
        var merges = model["merges"]!.AsArray();
        var made = merges.Single(m => (m is JsonArray pair ? string.Concat(pair.Select(static p => p!.ToString())) : m!.ToString().Replace(" ", "", StringComparison.Ordinal)) == last);
        _ = merges.Remove(made);
        var small = tokenizer.ToJsonString();
        tokenizer["added_tokens"]!.AsArray().Add(new JsonObject { ["id"] = 511, ["content"] = word, ["single_word"] = false, ["lstrip"] = false, ["rstrip"] = false, ["normalized"] = false, ["special"] = false });
        return (small, tokenizer.ToJsonString());
    }

    [Test]
    public async Task Without_a_folder_of_adapters_none_is_loaded()
    {
        await using var server = await TestServer.StartAsync();
        var (status, _) = await server.PostAsync("/v1/load_lora_adapter", """{"lora_name": "one", "lora_path": "one"}""");
        Assert.That(status, Is.EqualTo(HttpStatusCode.Forbidden));
    }

    private void Write(LoadedModel loaded, string name, long seed)
    {
        using var adapter = PeftAdapter.Create(loaded.Model, new LoraConfig { Rank = 4, Alpha = 64 }, seed);
        using var nothing = no_grad();
        foreach (var (_, value) in adapter.Parameters.Where(static p => p.Name.Contains("lora_B", StringComparison.Ordinal)))
        {
            _ = value.normal_(0, 0.05);
        }

        PeftFolder.Save(adapter, _folder.At("adapters", name), baseModel: null);
    }

    private string Alone(string name)
    {
        using var loaded = ModelLoader.Load(TestServer.Quickstart, float32, CPU);
        using var adapters = new AdapterSet(loaded.Model);
        _ = adapters.Load(name, _folder.At("adapters", name));
        adapters.Use((name, 1));
        var tokenizer = Tokenizers.Tokenizer.Load(TestServer.Quickstart);
        var prompt = tokenizer.Encode("<|im_start|>user\nfive<|im_end|>\n<|im_start|>assistant\n", addSpecialTokens: false);
        var made = new Decoding.TextGenerator(loaded.Model, new Decoding.GenerationOptions { MaxNewTokens = 12, EndTokens = Data.Tokens.EndTokens.Of(loaded.Folder, tokenizer) }).Continue([prompt])[0];
        return tokenizer.Decode(made.OutputIds, skipSpecialTokens: true);
    }

    private async Task<string> Ask(string model) =>
        (await _server.AnswerAsync("/v1/chat/completions", $$"""{"model": "{{model}}", "messages": [{"role": "user", "content": "five"}], "temperature": 0, "max_tokens": 12}"""))["choices"]![0]!["message"]!["content"]!.ToString();

    private async Task<IReadOnlyList<JsonObject>> Models()
    {
        using var response = await _server.SendAsync(HttpMethod.Get, "/v1/models");
        return [.. JsonNode.Parse(await response.Content.ReadAsStringAsync())!["data"]!.AsArray().Select(static m => m!.AsObject())];
    }

    private async Task<(HttpStatusCode Status, string Text)> Post(string path, string json)
    {
        using var response = await _server.SendAsync(HttpMethod.Post, path, json);
        return (response.StatusCode, await response.Content.ReadAsStringAsync());
    }
}
