using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.Gguf.Blocks;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>GGUF files and model cards, from the outside.</summary>
public sealed class GgufTests
{
    private static readonly string s_base = Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base");

    [Test]
    public void A_GGUF_file_is_written_checked_and_a_model_like_any_other()
    {
        using var work = new TemporaryFolder();
        var export = Owt.Run(work.Root, 0, "export", "--format", "gguf", "--model", s_base, "--dtype", "f32", "--output", "base.gguf");
        Assert.That(export.Output, Does.Contain("by at most 0.0e0").And.Contains("64 of 64"));
        var inspected = Owt.Run(work.Root, 0, "inspect", "base.gguf", "--json").Json[0];
        Assert.That((inspected["kind"]!.ToString(), inspected["general.architecture"]!.ToString()), Is.EqualTo(("gguf", "llama")));

        string[] sample = ["--prompt", "January", "--prompt", "five", "--max-new-tokens", "8", "--json"];
        var expected = Owt.Run(work.Root, 0, ["generate", "--model", s_base, .. sample]);
        var actual = Owt.Run(work.Root, 0, ["generate", "--model", "base.gguf", .. sample]);
        Assert.That(expected.Json, Has.Count.EqualTo(2));
        Assert.That(actual.Output, Is.EqualTo(expected.Output));
        Assert.That(actual.Error, Does.Contain("tokens/s"));
    }

    [Test]
    [Platform(Exclude = "Win", Reason = "links need a right there")]
    public void A_link_to_a_GGUF_file_has_the_size_and_the_model_of_the_file_that_it_leads_to_now()
    {
        using var work = new TemporaryFolder();
        Owt.Run(work.Root, 0, "init", "--vocab-size", "300", "--output", "other");
        Owt.Run(work.Root, 0, "export", "--format", "gguf", "--model", "other", "--dtype", "f32", "--verify", "false", "--output", "first.gguf");
        Owt.Run(work.Root, 0, "export", "--format", "gguf", "--model", s_base, "--dtype", "f32", "--verify", "false", "--output", "second.gguf");
        _ = File.CreateSymbolicLink(work["link.gguf"], "current.gguf");
        foreach (var (name, vocabulary) in new[] { ("first.gguf", "300"), ("second.gguf", "512") })
        {
            File.Move(work[name], work["current.gguf"], overwrite: true);
            Assert.That(Owt.Run(work.Root, 0, "inspect", "link.gguf", "--json").Json[0]["bytes"]!.GetValue<long>(), Is.EqualTo(new FileInfo(work["current.gguf"]).Length));
            Assert.That(Owt.Run(work.Root, 0, "export", "--format", "gguf", "--model", "link.gguf", "--verify", "false", "--output", $"out-{name}").Output, Does.Not.Contain("(the base has 0 KiB)"));
            Assert.That(Owt.Run(work.Root, 0, "inspect", $"out-{name}", "--json").Json[0]["llama.vocab_size"]!.ToString(), Is.EqualTo(vocabulary));
        }
    }

    [Test]
    public void An_adapter_is_trained_on_a_GGUF_base_and_merged_into_a_folder_with_a_card()
    {
        using var work = new TemporaryFolder();
        Owt.Run(work.Root, 0, "export", "--format", "gguf", "--model", s_base, "--dtype", "q8_0", "--verify", "false", "--output", "base.gguf");
        work.Write("rows.jsonl", "{\"text\": \"January 5\"}\n{\"text\": \"May 7\"}\n");
        work.Write("train.yaml", """
            output_dir: run
            model: { path: base.gguf, device: cpu }
            adapter: { r: 4, lora_alpha: 8 }
            data: { train: [ { path: rows.jsonl } ], packing: false, max_length: 64 }
            training: { max_steps: 2, micro_batch_size: 1, learning_rate: 1.0e-2, warmup_steps: 0 }
            """);
        Owt.Run(work.Root, 0, "train", "train.yaml");

        // Answers come from the packed weights with the adapter on, and are those of the unpacked ones.
        string[] asked = ["generate", "--model", "run", "--message", "Which month is May?", "--max-new-tokens", "8"];
        var packed = Owt.Run(work.Root, 0, asked);
        Assert.That(packed.Error, Does.Contain("stay packed"));
        Assert.That(packed.Output, Is.EqualTo(Owt.Run(work.Root, 0, [.. asked, "--quantization", "none"]).Output));
        Owt.Run(work.Root, 0, "export", "--format", "merged", "--model", "base.gguf", "--adapter", "run/adapter", "--output", "merged");
        var card = File.ReadAllText(work.At("merged", "README.md"));
        Assert.That(card, Does.StartWith("---\nbase_model: \"base.gguf\"").And.Contains("lora_alpha: 8").And.Contains("max_steps: 2").And.Contains("names no licence"));
        var lora = Owt.Run(work.Root, 0, "export", "--format", "gguf-lora", "--model", "base.gguf", "--adapter", "run/adapter", "--output", "lora.gguf").Output;
        Assert.That(lora, Does.Contain("read back the same"));
        Assert.That(Owt.Run(work.Root, 0, "inspect", "lora.gguf", "--json").Json[0]["general.base_model.0.name"]!.ToString(), Is.EqualTo("Base"), "as base.gguf says itself");
    }

    [TestCase("q4_1")]
    [TestCase("q8_0")]
    public void A_GGUF_base_keeps_its_own_types_where_nothing_else_is_asked_for(string dtype)
    {
        using var work = new TemporaryFolder();
        Owt.Run(work.Root, 0, "export", "--format", "gguf", "--model", s_base, "--dtype", "f32", "--verify", "false", "--output", "f32.gguf");
        Requantize(work["f32.gguf"], work["base.gguf"], Enum.Parse<GgufType>(dtype, ignoreCase: true));
        var export = Owt.Run(work.Root, 0, "export", "--format", "gguf", "--model", "base.gguf", "--output", "copy.gguf");
        Assert.That(export.Output, Does.Contain($"the base's own types, mostly {dtype}"));
        Assert.That(new FileInfo(work["copy.gguf"]).Length, Is.EqualTo(new FileInfo(work["base.gguf"]).Length).Within(5).Percent);
        Assert.That(Tensors(work["copy.gguf"]), Is.EqualTo(Tensors(work["base.gguf"])), "to the last byte");

        // With an adapter the types stay, and the tensors that it does not change stay as they are.
        work.Write("rows.jsonl", "{\"text\": \"January 5\"}\n{\"text\": \"May 7\"}\n");
        work.Write("train.yaml", """
            output_dir: run
            model: { path: base.gguf, device: cpu }
            adapter: { r: 4, lora_alpha: 8, target_modules: [q_proj] }
            data: { train: [ { path: rows.jsonl } ], packing: false, max_length: 64 }
            training: { max_steps: 2, micro_batch_size: 1, learning_rate: 1.0e-2, warmup_steps: 0 }
            evaluation: { generate_rows: 0 }
            """);
        Owt.Run(work.Root, 0, "train", "train.yaml");
        Owt.Run(work.Root, 0, "export", "--format", "gguf", "--model", "base.gguf", "--adapter", "run/adapter", "--output", "merged.gguf");
        var (before, after) = (Tensors(work["base.gguf"]), Tensors(work["merged.gguf"]));
        Assert.That(after.Select(static t => (t.Name, t.Type)), Is.EqualTo(before.Select(static t => (t.Name, t.Type))));
        Assert.That(before.Zip(after).Where(static p => p.First.Hash != p.Second.Hash).Select(static p => p.First.Name), Is.Not.Empty.And.All.EndWith("attn_q.weight"));
    }

    [Test]
    public void Tensors_that_fall_back_are_told_with_their_sizes_and_a_type_that_fits()
    {
        using var work = new TemporaryFolder();
        var export = Owt.Run(work.Root, 0, "export", "--format", "gguf", "--model", s_base, "--dtype", "q6_k", "--verify", "false", "--output", "q6.gguf");
        Assert.That(export.Output, Does.Match(@"writing q6_k: .* of tensors \(the base has .*\)").And.Match(@"\d+ tensors fall back from q6_k to q8_0, .* instead of .*: rows such as those of \d+ values are no whole blocks of 256"));
        Assert.That(export.Error, Does.Contain("use --dtype q8_0 instead"));
        var q4 = Owt.Run(work.Root, 0, "export", "--format", "gguf", "--model", s_base, "--dtype", "q4_k_m", "--verify", "false", "--output", "q4.gguf");
        Assert.That(q4.Output, Does.Contain("from q4_k to q5_0"));
        Assert.That(q4.Error, Does.Contain("use --dtype q4_0 instead"));
        Assert.That(Owt.Run(work.Root, 0, "export", "--format", "gguf", "--model", s_base, "--dtype", "q8_0", "--verify", "false", "--output", "q8.gguf").Output, Does.Not.Contain("fall back"));
    }

    private static List<(string Name, GgufType Type, string Hash)> Tensors(string path)
    {
        using var file = GgufFile.Open(path);
        return [.. file.Tensors.OrderBy(static t => t.Name, StringComparer.Ordinal).Select(t => (t.Name, t.Type, Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(Bytes(file, t)))))];
    }

    private static byte[] Bytes(GgufFile file, GgufTensorInfo tensor)
    {
        var bytes = new byte[tensor.ByteLength];
        file.ReadBytes(tensor, 0, bytes);
        return bytes;
    }

    // A file as other programs make them: every matrix in one type.
    private static void Requantize(string source, string target, GgufType type)
    {
        using var file = GgufFile.Open(source);
        var metadata = new GgufMetadata(target);
        metadata.AddAll(file.Metadata);
        GgufWriter.Write(target, metadata, [.. file.Tensors.Select(t =>
        {
            if (t.Shape.Count < 2)
            {
                return new GgufTensorToWrite(t.Name, t.Type, t.Shape, s => s.Write(Bytes(file, t)));
            }

            var values = System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(Bytes(file, t)).ToArray();
            var blocks = new byte[type.Bytes(values.Length)];
            BlockEncoder.Encode(type, values, blocks);
            return new GgufTensorToWrite(t.Name, type, t.Shape, s => s.Write(blocks));
        })]);
    }

    [Test]
    public void What_was_written_answers_beside_base_and_adapter_and_other_prompt_tokens_are_shown()
    {
        using var work = new TemporaryFolder();
        work.Write("rows.jsonl", string.Join('\n', Enumerable.Range(1, 12).Select(static i => $$"""{"prompt": "May {{i}} is ", "completion": "day {{i}}"}""")));
        work.Write("train.yaml", $$"""
            output_dir: run
            model: { path: "{{s_base}}", device: cpu }
            adapter: { r: 4, lora_alpha: 8 }
            data: { train: [ { path: rows.jsonl } ], packing: false, max_length: 64, eval_fraction: 0.3 }
            training: { max_steps: 3, micro_batch_size: 4, learning_rate: 1.0e-2 }
            evaluation: { generate_rows: 0, max_new_tokens: 8 }
            """);
        Owt.Run(work.Root, 0, "train", "train.yaml");
        string[] model = ["--model", s_base, "--adapter", "run/adapter"];
        foreach (var (format, more) in new[] { ("merged", Array.Empty<string>()), ("gguf", ["--dtype", "f32"]), ("gguf-lora", []), ("peft", []) })
        {
            var export = Owt.Run(work.Root, 0, ["export", "--format", format, .. model, .. more, "--output", $"out-{format}"]);
            Assert.That(export.Output, Does.Contain("held-out rows of the run"));
            var losses = System.Text.RegularExpressions.Regex.Matches(export.Output, @"^  (base|base and adapter|what was written) +(\d+\.\d+)  \d+ of \d+ +(owt|llama\.cpp)$", System.Text.RegularExpressions.RegexOptions.Multiline)
                .Select(static m => double.Parse(m.Groups[2].Value, System.Globalization.CultureInfo.InvariantCulture)).ToList();
            Assert.That(losses, Has.Count.EqualTo(3), export.Output);
            Assert.That(losses[2], Is.EqualTo(losses[1]).Within(2e-4), format);
            Assert.That(export.Output, Does.Match($"what was written .* {(format.StartsWith("gguf", StringComparison.Ordinal) ? "llama.cpp" : "owt")}\n"));
            Assert.That(losses[1], Is.LessThan(losses[0] - 0.01), "three steps at a high rate");
            Assert.That(export.Error, Does.Not.Contain("other tokens").And.Not.Contain("worse"));
        }

        // Few bits and other rows.
        var q4 = Owt.Run(work.Root, 0, ["export", "--format", "gguf", .. model, "--dtype", "q4_0", "--data", "rows.jsonl", "--data-rows", "5", "--output", "q4.gguf", "--json"]).Json[0]["comparison"]!;
        Assert.That((q4["rows"]!.GetValue<int>(), q4["from"]!.ToString(), q4["different_prompts"]!.GetValue<int>()), Is.EqualTo((5, "rows.jsonl", 0)));
        Assert.That(q4["results"]!.AsArray().Take(3).Select(static r => $"{r!["name"]} by {r["read_by"]}"), Is.EqualTo(new[] { "base by owt", "base and adapter by owt", "what was written by llama.cpp" }));
        Assert.That(Owt.Run(work.Root, 0, ["export", "--format", "merged", .. model, "--data-rows", "0", "--output", "quiet"]).Output, Does.Not.Contain("compared"));
    }

    // PEFT's own file of lora_only lacks the biases that it trained; the base's are used, and stay what they are.
    [Test]
    public void What_an_adapters_file_leaves_to_the_base_is_the_bases()
    {
        using var work = new TemporaryFolder();
        var (model, adapter) = (SharedFiles.Require("goldens", "reference", "llama_bias"), SharedFiles.Require("goldens", "reference", "lora_bias_lora_only"));
        Owt.Run(work.Root, 0, "export", "--format", "merged", "--model", model, "--adapter", adapter, "--output", "merged");
        using var expected = CheckpointWeights.Open(model);
        using var actual = CheckpointWeights.Open(work["merged"]);
        foreach (var tensor in expected.Tensors.Where(static t => t.Name.EndsWith(".bias", StringComparison.Ordinal)))
        {
            Assert.That(actual.ReadBytes(tensor.Name).AsSpan().SequenceEqual(expected.ReadBytes(tensor.Name)), tensor.Name);
        }
    }

    [TestCase("lora_embedding")]
    [TestCase("lora_modules_to_save")]
    [TestCase("lora_dora")]
    public void Whatever_an_adapters_file_holds_is_exported_to_the_last_byte(string name)
    {
        using var work = new TemporaryFolder();
        var (model, adapter) = (SharedFiles.Require("goldens", "reference", "llama"), SharedFiles.Require("goldens", "reference", name));
        Owt.Run(work.Root, 0, "export", "--format", "peft", "--model", model, "--adapter", adapter, "--output", "again");
        Assert.That(File.ReadAllBytes(work.At("again", "adapter_model.safetensors")), Is.EqualTo(File.ReadAllBytes(Path.Combine(adapter, "adapter_model.safetensors"))));
        Assert.That(Owt.Run(work.Root, 2, "export", "--format", "gguf-lora", "--model", model, "--adapter", adapter, "--output", "lora.gguf").Error, Does.Contain("low-rank updates"));
        Assert.That(File.Exists(work.At("lora.gguf")), Is.False);
    }

    [Test]
    public void A_quantised_base_and_a_combination_go_into_GGUF()
    {
        using var work = new TemporaryFolder();
        var model = SharedFiles.Require("goldens", "reference", "llama");
        string[] mix = ["--adapter", $"{SharedFiles.Require("goldens", "reference", "lora_qv")}=0.7", "--adapter", $"{SharedFiles.Require("goldens", "reference", "lora_dora")}=0.3"];
        var export = Owt.Run(work.Root, 0, ["export", "--format", "gguf", "--model", model, .. mix, "--base-quantization", "nf4", "--output", "merged.gguf"]);
        Assert.That(export.Output, Does.Contain("after nf4 quantization").And.Match(@"by at most \d\.\de-[5-9]"));
    }

    [Test]
    public void What_does_not_go_together_is_said()
    {
        Assert.That(Owt.Run(".", 1, "export", "--format", "gguf-lora", "--adapter", "a=0.5", "--model", "m", "--output", "o").Error, Does.Contain("a single unscaled adapter"));
        Assert.That(Owt.Run(".", 1, "export", "--format", "peft", "--adapter", "a", "--quantization", "nf4", "--model", "m", "--output", "o").Error, Does.Contain("--quantization"));
        Assert.That(Owt.Run(".", 1, "chat", "--adapter", "x/a", "--adapter", "y/a", "--model", "m").Error, Does.Contain("NAME=DIR"));
        Assert.That(Owt.Run(".", 1, "export", "--format", "peft", "--model", "m", "--output", "o").Error, Does.Contain("--adapter"));
        Assert.That(Owt.Run(".", 1, "export", "--format", "merged", "--dtype", "q8_0", "--model", "m", "--output", "o").Error, Does.Contain("q8_0"));
        Assert.That(Owt.Run(".", 1, "export", "--format", "gguf", "--dtype", "q3_k", "--model", "m", "--output", "o").Error, Does.Contain("q4_k_m"));
    }

    [Test]
    public void A_model_that_is_neither_here_nor_to_be_had_is_explained()
    {
        using var work = new TemporaryFolder();
        Environment.SetEnvironmentVariable("HF_HUB_OFFLINE", "1");
        try
        {
            var error = Owt.Run(work.Root, 3, "generate", "--model", "no-such-org/no-such-model", "--prompt", "x").Error;
            Assert.That(error, Does.Contain("no folder").And.Contains("HF_HUB_OFFLINE"));
        }
        finally
        {
            Environment.SetEnvironmentVariable("HF_HUB_OFFLINE", null);
        }
    }

    [Test]
    public void Every_tensor_of_a_folder_without_an_adapter_stays_as_it_is()
    {
        using var work = new TemporaryFolder();
        Owt.Run(work.Root, 0, "export", "--format", "merged", "--model", s_base, "--output", "copy", "--max-shard-size", "500KB");
        using var expected = CheckpointWeights.Open(s_base);
        using var actual = CheckpointWeights.Open(work["copy"]);
        Assert.That(actual.FilePaths, Has.Count.GreaterThan(1));
        foreach (var tensor in expected.Tensors)
        {
            Assert.That(actual.ReadBytes(tensor.Name).AsSpan().SequenceEqual(expected.ReadBytes(tensor.Name)), tensor.Name);
        }

        Assert.That(JsonNode.Parse(File.ReadAllText(work.At("copy", "tokenizer.json")))!.ToJsonString(), Is.EqualTo(JsonNode.Parse(File.ReadAllText(Path.Combine(s_base, "tokenizer.json")))!.ToJsonString()));
    }
}
