using NUnit.Framework;
using OpenWeights.Hub.Tests;
using OpenWeights.Testing;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>Models and adapters of the Hub that are looked at without being downloaded.</summary>
[Platform(Exclude = "Win", Reason = "the environment is set by a shell")]
public sealed class HubInspectTests
{
    private const string Weights = "/cdn/model.safetensors";
    private static readonly string s_base = Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base");
    private static readonly string s_adapters = Path.Combine(SharedFiles.Root, "tests", "fixtures", "goldens", "adapters2026");

    [Test]
    public void A_model_is_described_as_its_folder_is_from_the_headers_of_its_weights()
    {
        using var work = new TemporaryFolder();
        using var hub = Serving(s_base);
        var described = Inspect(work, hub, 0, "org/tiny", "--json").Json.Single();
        Assert.That(described.ToJsonString(), Is.EqualTo(Owt.Run(work.Root, 0, "inspect", s_base, "--json").Json.Single().ToJsonString()));

        var asked = hub.Requests.Where(static r => r.Path == Weights).Select(static r => r.Range).ToList();
        Assert.That(asked, Is.EqualTo(new[] { "bytes=0-262143" }), "a header's worth of the 3 MB");
        Assert.That(Directory.GetFiles(work.At("cache"), "*.safetensors", SearchOption.AllDirectories), Is.Empty, "what is not whole is not kept");
    }

    [Test]
    public void A_model_that_is_here_is_not_asked_for_again()
    {
        using var work = new TemporaryFolder();
        using var hub = Serving(s_base);
        Owt.RunInShell(work.Root, Shell(work, hub), 0, "download", "org/tiny");
        hub.Requests.Clear();
        Assert.That(Inspect(work, hub, 0, "org/tiny").Output, Does.Contain("parameters"));
        Assert.That(hub.Requests, Is.Empty);
    }

    [Test]
    public void An_adapter_is_downloaded_and_described_as_its_folder_is()
    {
        using var work = new TemporaryFolder();
        var adapter = Path.Combine(s_adapters, "lora_save_embed_tied");
        using var hub = Serving(adapter);
        var described = Inspect(work, hub, 0, "org/tiny", "--json").Json.Single();
        Assert.That(described["kind"]!.ToString(), Is.EqualTo("adapter"));
        Assert.That(described.ToJsonString(), Is.EqualTo(Owt.Run(work.Root, 0, "inspect", adapter, "--json").Json.Single().ToJsonString()));
    }

    [Test]
    public void What_cannot_be_described_is_told_by_its_name()
    {
        using var work = new TemporaryFolder();
        using var hub = new FakeHub { Files = { ["model-q8_0.gguf"] = new byte[200], ["README.md"] = "#"u8.ToArray() } };
        Assert.That(Inspect(work, hub, 2, "org/tiny").Error, Does.Contain("`owt download org/tiny --include model-q8_0.gguf`"));

        hub.Files["config.json"] = File.ReadAllBytes(Path.Combine(s_base, "config.json"));
        hub.Files["model.safetensors"] = [.. Enumerable.Repeat((byte)'<', 300)];
        Assert.That(Inspect(work, hub, 2, "org/tiny").Error, Does.Contain("org/tiny: model.safetensors is not a safetensors file"));
        Assert.That(Inspect(work, hub, 2, "org/other").Error, Does.Contain("there is no model org/other"));
    }

    [Test]
    public void Tokenizers_and_rows_of_the_Hub_are_named_to_other_commands_too()
    {
        using var work = new TemporaryFolder();
        using var hub = Serving(s_base);
        hub.Rows["main data/train-0.jsonl"] = "{\"text\": \"May\"}\n"u8.ToArray();
        hub.Rows["main data/test-0.jsonl"] = "{\"text\": \"June\"}\n"u8.ToArray();
        Owt.RunInShell(work.Root, Shell(work, hub), 0, "init", "--tokenizer", "org/tiny", "--output", "new");
        Assert.That(File.ReadAllBytes(work.At("new", "tokenizer.json")), Is.EqualTo(File.ReadAllBytes(Path.Combine(s_base, "tokenizer.json"))));
        Assert.That(hub.Requests.Where(static r => r.Path == Weights), Is.Empty);

        string Tokens(params string[] from) => Owt.RunInShell(work.Root, Shell(work, hub), 0, ["tokenize", "--model", "org/tiny", .. from]).Output;
        Assert.That(Tokens("--input", "hub://org/rows", "--split", "test"), Is.EqualTo(Tokens("--text", "June")));
        Assert.That(Tokens("--input", "hub://org/rows"), Is.EqualTo(Tokens("--text", "May")));
    }

    private static FakeHub Serving(string folder)
    {
        var hub = new FakeHub();
        foreach (var file in Directory.GetFiles(folder))
        {
            hub.Files[Path.GetFileName(file)] = File.ReadAllBytes(file);
        }

        return hub;
    }

    private static string Shell(TemporaryFolder work, FakeHub hub) => $"exec env HF_ENDPOINT={hub.Endpoint} HF_HUB_CACHE='{work.At("cache")}' \"$@\"";

    private static Owt Inspect(TemporaryFolder work, FakeHub hub, int code, params string[] arguments) => Owt.RunInShell(work.Root, Shell(work, hub), code, ["inspect", .. arguments]);
}
