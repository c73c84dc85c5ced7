using System.Text;
using NUnit.Framework;
using OpenWeights.Hub.Tests;
using OpenWeights.Testing;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>owt push, and training on a data set of the Hub.</summary>
[Platform(Exclude = "Win", Reason = "the environment is set by a shell")]
public sealed class PushTests
{
    private static readonly string s_quickstart = Path.Combine(SharedFiles.Root, "datasets", "quickstart");

    [Test]
    public void A_run_on_a_data_set_of_the_Hub_is_pushed_after_it_was_shown()
    {
        using var work = new TemporaryFolder();
        var lines = File.ReadAllLines(Path.Combine(s_quickstart, "train.jsonl"));
        byte[] Rows(int first, int count) => Encoding.UTF8.GetBytes(string.Join('\n', lines.Skip(first).Take(count)) + "\n");
        using var hub = new FakeHub { Rows = { ["main data/train-00000.jsonl"] = Rows(0, 30), ["main data/train-00001.jsonl"] = Rows(30, 30), ["main data/test-00000.jsonl"] = Rows(60, 20), ["main README.md"] = "# rows"u8.ToArray() } };
        var shell = $"exec env HF_ENDPOINT={hub.Endpoint} HF_HUB_CACHE='{work.At("cache")}' HF_TOKEN={hub.Writer} \"$@\"";
        work.Write("train.yaml", $$"""
            output_dir: run
            model: { path: '{{Path.Combine(s_quickstart, "base")}}', dtype: float32, device: cpu }
            adapter: { r: 4, lora_alpha: 8 }
            data: { train: hub://org/rows, eval: [ { path: hub://org/rows, split: test } ], packing: false }
            training: { max_steps: 4, micro_batch_size: 8 }
            evaluation: { generate_rows: 4, max_new_tokens: 8 }
            checkpoint: { every_steps: 0 }
            """);
        var previewed = Owt.RunInShell(work.Root, shell, 0, "data", "preview", "train.yaml", "--json");
        Assert.That(previewed.Error, Does.Match("org/rows at [0-9a-f]{12}: 2 files, .* to download"), "a download shows how far it is");
        var preview = previewed.Json.Single();
        Assert.That(preview["rows"]!.GetValue<int>(), Is.EqualTo(60), preview.ToJsonString());
        Owt.RunInShell(work.Root, shell, 0, "train", "train.yaml");
        Assert.That(hub.Requests.Count(static r => r.Path.EndsWith("train-00000.jsonl", StringComparison.Ordinal)), Is.EqualTo(1), "it is in the cache then");

        var shown = Owt.RunInShell(work.Root, shell, 0, "push", "run", "--repo", "me/mine").Output;
        Assert.That(shown, Does.Contain("adapter_model.safetensors").And.Contains("nothing was uploaded").And.Contains("base_model: \"base\"").And.Contains("datasets: [\"org/rows\"]").And.Contains("eval loss, last"));
        Assert.That(shown, Does.Not.Contain(hub.Writer).And.Not.Contain(work.Root), "neither the token nor a path of this machine");
        Assert.That(hub.Created, Is.Empty);

        var pushed = Owt.RunInShell(work.Root, shell, 0, "push", "run", "--repo", "me/mine", "--yes", "--json").Json.Single();
        Assert.That(JsonOutputTests.ProblemsOf(pushed, "push"), Is.Empty);
        Assert.That(pushed["commit"]!.ToString(), Does.Contain("/me/mine/commit/"));
        Assert.That(hub.Committed.Keys, Is.SupersetOf(new[] { "README.md", "adapter_config.json", "adapter_model.safetensors" }));
        Assert.That(hub.Committed["adapter_model.safetensors"], Is.EqualTo(File.ReadAllBytes(work.At("run", "adapter", "adapter_model.safetensors"))));
        Assert.That(Encoding.UTF8.GetString(hub.Committed["README.md"]), Does.StartWith("---\n").And.Contains("library_name: peft"));
    }

    [Test]
    public void A_merged_model_and_a_GGUF_file_are_pushed_with_their_cards()
    {
        using var work = new TemporaryFolder();
        using var hub = new FakeHub();
        var shell = $"exec env HF_ENDPOINT={hub.Endpoint} HF_HUB_CACHE='{work.At("cache")}' HF_TOKEN={hub.Writer} \"$@\"";
        var @base = Path.Combine(s_quickstart, "base");
        Owt.Run(work.Root, 0, "export", "--format", "merged", "--model", @base, "--output", "merged");
        Owt.Run(work.Root, 0, "export", "--format", "gguf", "--dtype", "q8_0", "--model", @base, "--output", "tiny.gguf");

        Owt.RunInShell(work.Root, shell, 0, "push", "merged", "--repo", "me/mine", "--yes");
        Assert.That(hub.Committed["model.safetensors"], Is.EqualTo(File.ReadAllBytes(work.At("merged", "model.safetensors"))));
        Assert.That(hub.Committed.Keys, Is.SupersetOf(new[] { "config.json", "tokenizer.json", "README.md" }));
        Assert.That(Encoding.UTF8.GetString(hub.Committed["README.md"]), Does.StartWith("---\n").And.Not.Contain(work.Root));

        var pushed = Owt.RunInShell(work.Root, shell, 0, "push", "tiny.gguf", "--repo", "me/mine", "--public", "--yes", "--json").Json.Single();
        Assert.That(pushed["kind"]!.ToString(), Is.EqualTo("gguf"));
        Assert.That(hub.Committed["tiny.gguf"], Is.EqualTo(File.ReadAllBytes(work.At("tiny.gguf"))));
        Assert.That(Encoding.UTF8.GetString(hub.Committed["README.md"]), Does.Contain("library_name: gguf").And.Not.Contain(work.Root));
        Assert.That(hub.Created["me/mine"], Is.True, "private: it was made by the first push");
    }

    [Test]
    public void What_cannot_be_pushed_is_told()
    {
        using var work = new TemporaryFolder();
        Assert.That(Owt.Run(work.Root, 2, "push", "nothing", "--repo", "me/mine").Error, Does.Contain("no such folder or file"));
        Assert.That(Owt.Run(work.Root, 1, "push", "nothing", "--repo", "mine").Error, Does.Contain("write ORG/NAME"));
    }
}
