using NUnit.Framework;
using OpenWeights.Hub.Tests;
using OpenWeights.Testing;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>Distillation from a teacher that is named as the Hub names it.</summary>
[Platform(Exclude = "Win", Reason = "the environment is set by a shell")]
public sealed class HubTeacherTests
{
    private static readonly string s_quickstart = Path.Combine(SharedFiles.Root, "datasets", "quickstart");

    [Test]
    public void A_teacher_of_the_Hub_is_downloaded_once_and_teaches_what_its_folder_teaches()
    {
        using var work = new TemporaryFolder();
        using var hub = new FakeHub();
        var @base = Path.Combine(s_quickstart, "base");
        foreach (var file in Directory.GetFiles(@base))
        {
            hub.Files[Path.GetFileName(file)] = File.ReadAllBytes(file);
        }

        var shell = $"exec env HF_ENDPOINT={hub.Endpoint} HF_HUB_CACHE='{work.At("cache")}' \"$@\"";
        string Config(string output, string adapter, string objective) => work.Write($"{output}.yaml", $$"""
            output_dir: {{output}}
            model: { path: '{{@base}}', dtype: float32, device: cpu }
            adapter: { {{adapter}} }
            data: { train: [ { path: '{{Path.Combine(s_quickstart, "train.jsonl")}}', limit: 16 } ], packing: false }
            objective: { {{objective}} }
            training: { max_steps: 2, micro_batch_size: 4, learning_rate: 1.0e-2, warmup_steps: 0 }
            evaluation: { generate_rows: 0 }
            checkpoint: { every_steps: 0 }
            """);

        // A student that differs from its teacher.
        Owt.Run(work.Root, 0, "train", Config("student", "r: 4, lora_alpha: 8", "type: sft"));
        var ofHub = Config("of-hub", "path: student", "type: distill, teacher: org/tiny");
        bool Asked(string name) => hub.Requests.Any(r => r.Path.EndsWith(name, StringComparison.Ordinal));
        var estimate = Owt.RunInShell(work.Root, shell, 0, "estimate", ofHub, "--json").Json.Single();
        Assert.That(estimate["reference"]!.GetValue<long>(), Is.EqualTo(estimate["weights"]!.GetValue<long>()), "the teacher is as large as the student");
        Assert.That(Asked("config.json") && !Asked("model.safetensors"), "an estimate needs no weights");
        Owt.RunInShell(work.Root, shell, 0, "train", ofHub);
        Owt.RunInShell(work.Root, shell, 0, "train", ofHub, "--overwrite");
        Assert.That(hub.Requests.Count(static r => r.Path.EndsWith("/cdn/model.safetensors", StringComparison.Ordinal)), Is.EqualTo(1), "it is in the cache then");

        Owt.Run(work.Root, 0, "train", Config("of-folder", "path: student", $"type: distill, teacher: '{@base}'"));
        byte[] Adapter(string run) => File.ReadAllBytes(work.At(run, "adapter", "adapter_model.safetensors"));
        Assert.That(Adapter("of-hub"), Is.EqualTo(Adapter("of-folder")));
        Assert.That(Adapter("of-hub"), Is.Not.EqualTo(Adapter("student")));

        var unknown = Config("unknown", "path: student", "type: distill, teacher: org/other");
        Assert.That(Owt.RunInShell(work.Root, shell, 2, "train", unknown).Error, Does.Contain("org/other"));
    }
}
