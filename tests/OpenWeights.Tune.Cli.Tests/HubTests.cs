using System.Diagnostics;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>Models of the Hub: through proxies, and where only their names are here.</summary>
[Platform(Exclude = "Win", Reason = "the environment is set by a shell")]
public sealed class HubTests
{
    [Test]
    public void A_download_goes_through_the_proxy_that_the_environment_names()
    {
        using var work = new TemporaryFolder();
        using var proxy = new FakeProxy { Files = { ["config.json"] = "{}", ["tokenizer_config.json"] = "{ }" } };
        var download = Owt.RunInShell(work.Root, $"{Environment(work, "http")} http_proxy={proxy.Address} \"$@\"", 0, "download", "org/tiny");
        Assert.That(File.ReadAllText(Path.Combine(download.Output.Trim(), "config.json")), Is.EqualTo("{}"));
        Assert.That(proxy.Requests, Has.Count.EqualTo(3).And.All.StartsWith("GET http://hub.example/"));
    }

    [Test]
    public void A_server_that_NO_PROXY_names_is_asked_itself()
    {
        using var work = new TemporaryFolder();
        using var proxy = new FakeProxy();
        using var hub = new FakeProxy();
        var environment = $"exec env HF_ENDPOINT={hub.Address} HF_HUB_CACHE='{work.At("cache")}' NO_PROXY=127.0.0.1,other.example";
        _ = Owt.RunInShell(work.Root, $"{environment} http_proxy={proxy.Address} \"$@\"", 2, "download", "org/tiny");
        Assert.That(proxy.Requests, Is.Empty);
        Assert.That(hub.Requests, Has.Some.StartsWith("GET /api/models/org/tiny"));
    }

    [Test]
    public void A_secure_server_is_reached_by_a_tunnel_through_HTTPS_PROXY()
    {
        using var work = new TemporaryFolder();
        using var proxy = new FakeProxy();
        var download = Owt.StartInShell(work.Root, $"{Environment(work, "https")} HTTPS_PROXY={proxy.Address} \"$@\"", "download", "org/tiny");
        for (var watch = Stopwatch.StartNew(); proxy.Requests.IsEmpty && watch.Elapsed < TimeSpan.FromMinutes(1);)
        {
            Thread.Sleep(20);
        }

        download.Kill();
        Assert.That(proxy.Requests, Has.Some.StartsWith("CONNECT hub.example:443"));
    }

    [Test]
    public void A_name_that_is_no_folder_is_said_to_be_the_Hubs_before_anything_is_downloaded()
    {
        using var work = new TemporaryFolder();
        work.Write("rows.jsonl", """{"text": "x"}""");
        work.Write("train.yaml", """
            output_dir: run
            model: { path: my-models/tiny }
            data: { train: [ { path: rows.jsonl } ] }
            """);
        var validate = Owt.RunInShell(work.Root, $"{Environment(work, "http")} \"$@\"", 0, "validate", "train.yaml");
        Assert.That(validate.Error, Does.Contain("no folder my-models/tiny exists").And.Contains("will download"));
        Assert.That(validate.Output, Does.Contain("rows and memory were not checked"));
    }

    [TestCase(false)]
    [TestCase(true)]
    public void The_memory_of_a_model_of_the_Hub_or_in_GGUF_is_estimated(bool isGguf)
    {
        using var work = new TemporaryFolder();
        var source = Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base");
        var repository = work.At("cache", "models--org--tiny");
        _ = Directory.CreateDirectory(Path.Combine(repository, "refs"));
        File.WriteAllText(Path.Combine(repository, "refs", "main"), FakeProxy.Commit);
        var snapshot = Directory.CreateDirectory(Path.Combine(repository, "snapshots", FakeProxy.Commit)).FullName;
        foreach (var file in Directory.GetFiles(source))
        {
            File.Copy(file, Path.Combine(snapshot, Path.GetFileName(file)));
        }

        if (isGguf)
        {
            Owt.Run(work.Root, 0, "export", "--format", "gguf", "--model", source, "--output", "tiny.gguf", "--verify", "false");
        }

        work.Write("rows.jsonl", """{"prompt": "a", "completion": "b"}""");
        work.Write("train.yaml", $$"""
            output_dir: run
            model: { path: {{(isGguf ? "tiny.gguf" : "org/tiny")}}, device: cpu }
            adapter: { r: 4 }
            data: { train: [ { path: rows.jsonl } ] }
            training: { max_steps: 1 }
            """);
        var estimate = Owt.RunInShell(work.Root, $"{Environment(work, "http")} HF_HUB_OFFLINE=1 \"$@\"", 0, "estimate", "train.yaml", "--json").Json[0];
        Assert.That(estimate["weights"]!.GetValue<long>(), Is.EqualTo(803_968 * 4).Within(5).Percent);
    }

    [Test]
    public void Of_a_model_of_the_Hub_the_estimate_asks_for_its_settings_and_for_no_weights()
    {
        using var work = new TemporaryFolder();
        var source = Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base");
        using var proxy = new FakeProxy { Files = { ["model.safetensors"] = "which nobody wants" } };
        foreach (var name in new[] { "config.json", "tokenizer.json", "tokenizer_config.json" })
        {
            proxy.Files[name] = File.ReadAllText(Path.Combine(source, name));
        }

        work.Write("rows.jsonl", """{"prompt": "a", "completion": "b"}""");
        work.Write("train.yaml", """
            output_dir: run
            model: { path: org/tiny, device: cpu }
            adapter: { r: 4 }
            data: { train: [ { path: rows.jsonl } ] }
            training: { max_steps: 1 }
            """);
        var line = $"{Environment(work, "http")} http_proxy={proxy.Address} \"$@\"";
        var estimate = Owt.RunInShell(work.Root, line, 0, "estimate", "train.yaml", "--json").Json[0];
        Assert.That(estimate["weights"]!.GetValue<long>(), Is.EqualTo(803_968 * 4).Within(5).Percent);
        Assert.That(proxy.Requests, Has.Some.Contains("/config.json").And.None.Contains("safetensors"));

        // Without a tokenizer config.json is enough: rows are then as long as they may be.
        using var bare = new FakeProxy { Files = { ["config.json"] = proxy.Files["config.json"] } };
        line = $"{Environment(work, "http").Replace("cache'", "other'", StringComparison.Ordinal)} http_proxy={bare.Address} \"$@\"";
        var longest = Owt.RunInShell(work.Root, line, 0, "estimate", "train.yaml", "--json");
        Assert.That(longest.Error, Does.Contain("no tokenizer").And.Contain("data.max_length"));
        Assert.That(longest.Json[0]["weights"]!.GetValue<long>(), Is.EqualTo(estimate["weights"]!.GetValue<long>()));
    }

    [Test]
    public void A_Hub_that_cannot_be_reached_is_a_failure_and_a_model_that_it_has_not_is_a_wrong_file_in_every_command()
    {
        using var work = new TemporaryFolder();
        using var hub = new FakeProxy();
        work.Write("rows.jsonl", """{"prompt": "a", "completion": "b"}""");
        work.Write("train.yaml", "output_dir: run\nmodel: { path: org/none, device: cpu }\ndata: { train: rows.jsonl }\n");
        foreach (var command in new[]
        {
            (string[])["download", "org/none"], ["estimate", "train.yaml"], ["train", "train.yaml"], ["generate", "--model", "org/none", "--prompt", "x"],
            ["export", "--format", "merged", "--model", "org/none", "--output", "o"], ["tokenize", "--tokenizer", "org/none", "--input", "rows.jsonl"],
        })
        {
            var environment = $"exec env -u http_proxy -u HTTP_PROXY HF_HUB_CACHE='{work.At("cache")}'";
            Assert.That(Owt.RunInShell(work.Root, $"{environment} HF_ENDPOINT={hub.Address} \"$@\"", 2, command).Error, Does.Contain("there is no model org/none"), command[0]);
            Assert.That(Owt.RunInShell(work.Root, $"{environment} HF_ENDPOINT=http://127.0.0.1:9 \"$@\"", 3, command).Error, Does.Contain("cannot be reached"), command[0]);
        }
    }

    private static string Environment(TemporaryFolder work, string scheme) => $"exec env -u NO_PROXY -u no_proxy HF_ENDPOINT={scheme}://hub.example HF_HUB_CACHE='{work.At("cache")}'";
}
