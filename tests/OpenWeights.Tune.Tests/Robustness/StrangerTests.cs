using System.Buffers.Binary;
using System.Text;
using NUnit.Framework;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tokenizers;
using OpenWeights.Tokenizers.Templates;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Training;
using OpenWeights.Tune.Training.Checkpoints;
using OpenWeights.Tune.Training.Recording;

namespace OpenWeights.Tune.Tests.Robustness;

/// <summary>Files made to harm: what they claim costs no more than what they hold, and they lead to no other file of the machine.</summary>
[TestFixture]
public sealed class StrangerTests
{
    private readonly TemporaryFolder _folder = new();

    [OneTimeTearDown]
    public void Remove() => _folder.Dispose();

    [TestCase("../secret.safetensors")]
    [TestCase("/etc/hostname")]
    [TestCase("a/b.safetensors")]
    [TestCase("..")]
    [TestCase("C:\\\\secret.safetensors")]
    public void An_index_cannot_name_a_shard_outside_its_folder(string shard)
    {
        using var folder = new TemporaryFolder();
        File.WriteAllBytes(folder["secret.safetensors"], SafetensorsInputs.File("""{"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}"""u8.ToArray(), 1));
        _ = folder.Write("model/model.safetensors.index.json", $$$"""{"weight_map": {"a": "{{{shard}}}"}}""");

        Refuses<InvalidDataException>(() => CheckpointWeights.Open(folder["model"]).Dispose(), "not a plain file name");
    }

    [Test]
    public void A_folder_from_elsewhere_cannot_point_to_a_GGUF_file()
    {
        using var folder = new TemporaryFolder();
        File.WriteAllBytes(folder["secret.gguf"], GgufInputs.Good);
        _ = folder.Write("model/gguf.json", $$"""{"file": "{{folder["secret.gguf"].Replace('\\', '/')}}"}""");

        Refuses<InvalidDataException>(() => CheckpointWeights.Open(folder["model"]).Dispose(), "give the GGUF file itself");

        GgufFolder.Unpack(folder["secret.gguf"], folder.Folder("own"));
        using var weights = CheckpointWeights.Open(folder["own"]);
        Assert.That(weights.Tensors, Is.Not.Empty);
    }

    [TestCase("""{"result": {"folder": "../other", "step": 1, "last_step": 1}}""")]
    [TestCase("""{"result": {"folder": "/", "step": 1, "last_step": 1}}""")]
    [TestCase("""{"result": {"folder": ".", "step": 1, "last_step": 1}}""")]
    [TestCase("""{"result": {"step": 1, "last_step": 1}}""")]
    [TestCase("""{"result": {"folder": "model", "step": "1", "last_step": 1}}""")]
    [TestCase("""{"result": {"folder": "model", "last_step": 1}}""")]
    [TestCase("""{"result": {"folder": "model", "step": 1, "last_step": 1, "best_eval_loss": []}}""")]
    public void A_manifest_names_a_folder_of_its_run_and_numbers(string manifest)
    {
        using var folder = new TemporaryFolder();
        _ = Directory.CreateDirectory(folder["run"]);
        _ = Directory.CreateDirectory(folder.At("run", "model"));
        _ = Directory.CreateDirectory(folder["other"]);
        File.WriteAllText(folder.At("run", RunManifest.Name), manifest);

        Refuses<InvalidDataException>(() => RunManifest.Result(folder["run"]), "result.");
    }

    [TestCase("")]
    [TestCase("null")]
    [TestCase("[]")]
    [TestCase("""{"step": "x"}""")]
    [TestCase("""{"step": 1}""")]
    [TestCase("""{"step": 1, "total_steps": 2, "updates": 1, "recent_losses": {}}""")]
    public void A_damaged_state_of_a_checkpoint_is_refused_with_its_name(string state)
    {
        File.WriteAllText(_folder["state.json"], state);

        Refuses<InvalidDataException>(() => RunCheckpoint.ReadState(_folder.Root), "state.json");
    }

    [Test]
    public void Metrics_are_kept_up_to_the_first_line_that_is_none()
    {
        var good = "{\"step\": 1, \"loss\": 2}\n"u8;
        foreach (var bad in (string[])["{\"step\": \"x\"}", "{\"step\": 1, \"step\": 2}", "null", "[1]", "{\"step\": 1e300}", "{\"a\": 1}", "{\"step\": {}}", "{\"step\": 1, \"when\": \"\\ud83d\"}", "{\"\\ud83dstep\": 1}"])
        {
            File.WriteAllBytes(_folder["metrics.jsonl"], [.. good, .. Encoding.UTF8.GetBytes(bad), (byte)'\n', .. good]);
            using var lines = new LinesFile(_folder["metrics.jsonl"], 3);

            Assert.That(lines.Read(), Has.Count.EqualTo(1), bad);
            Assert.That(new FileInfo(_folder["metrics.jsonl"]).Length, Is.EqualTo(good.Length), bad);
        }
    }

    [Test]
    public void Bytes_that_are_no_UTF8_in_the_metrics_do_not_move_the_end_of_the_file()
    {
        byte[] line = [.. "{\"step\": 1, \"a\": \""u8, 0xFF, .. "\"}\n"u8];
        File.WriteAllBytes(_folder["metrics.jsonl"], [.. line, .. "{"u8]);
        using var lines = new LinesFile(_folder["metrics.jsonl"], 3);

        Assert.That(new FileInfo(_folder["metrics.jsonl"]).Length, Is.EqualTo(line.Length).Or.Zero);
    }

    [TestCase("[", 1000)]
    [TestCase("[", 200_000)]
    [TestCase("{a: ", 1000)]
    [TestCase("{a: ", 100_000)]
    [TestCase("- ", 1000)]
    [TestCase("- ", 20_000)]
    [TestCase("? ", 1000)]
    public void A_config_that_nests_without_end_is_refused(string piece, int count) =>
        Refuses<ConfigException>(() => Config("model: " + (piece[0] is '-' or '?' ? "\n" : "") + new StringBuilder().Insert(0, piece, count)), "");

    [Test]
    public void A_config_whose_aliases_repeat_each_other_is_refused()
    {
        var text = new StringBuilder("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for (var i = 1; i < 12; i++)
        {
            _ = text.Append($"a{i}: &a{i} [{string.Join(", ", Enumerable.Repeat($"*a{i - 1}", 10))}]\n");
        }

        Refuses<ConfigException>(() => Config(text.ToString()), "aliases written out");
    }

    [TestCase("model: &m\n  path: *m\n")]
    [TestCase("objective: &o { type: sft, x: [*o] }\n")]
    public void A_config_with_an_alias_within_itself_is_refused(string text) => Refuses<ConfigException>(() => Config(text), "within the value that it repeats");

    [TestCase("a: { b: 1 }*a\n")]
    [TestCase("a: [1]*a\n")]
    [TestCase("? *a : b")]
    public void A_config_with_an_alias_where_none_can_stand_is_refused(string text) => Refuses<ConfigException>(() => Config(text), "");

    [Test]
    public void An_alias_that_repeats_a_value_is_read()
    {
        var config = RunConfigFile.Parse("x.yaml", "output_dir: &o runs/a\nmodel: { path: *o }\ndata: { train: a.jsonl }\n", []).Config;

        Assert.That(config.Model.Path, Does.EndWith("a"));
    }

    [TestCase(0UL)]
    [TestCase(1UL << 40)]
    [TestCase(ulong.MaxValue)]
    [TestCase(100_000_000UL)]
    public void A_safetensors_header_that_claims_a_length_costs_nothing(ulong length)
    {
        File.WriteAllBytes(_folder["a.safetensors"], SafetensorsInputs.File("{}"u8.ToArray(), 100, length));

        Costs(1 << 20, () => Refuses<InvalidDataException>(() => SafetensorsFile.Open(_folder["a.safetensors"]).Dispose(), "header"));
    }

    [TestCase(6u)]
    [TestCase(8u)]
    [TestCase(10u)]
    [TestCase(12u)]
    public void A_GGUF_array_that_claims_a_length_costs_nothing(uint type)
    {
        // Of a file of 4 MB, the array claims one element for each byte.
        var bytes = new byte[4 << 20];
        "GGUF"u8.CopyTo(bytes);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(4), 3);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(16), 1);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(24), 1);
        bytes[32] = (byte)'k';
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(33), 9);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(37), type);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(41), (ulong)bytes.Length - 100);
        File.WriteAllBytes(_folder["a.gguf"], bytes);

        Costs(1 << 20, () => Refuses<InvalidDataException>(() => GgufFile.Open(_folder["a.gguf"]).Dispose(), "more than the file can hold"));
    }

    [Test]
    public void A_large_GGUF_array_costs_what_it_holds()
    {
        var metadata = new GgufMetadata("") { };
        metadata.Add("numbers", new float[1 << 20]);
        metadata.Add("flags", new bool[1 << 20]);
        GgufWriter.Write(_folder["b.gguf"], metadata, []);
        var size = new FileInfo(_folder["b.gguf"]).Length;

        Costs((2 * size) + (1 << 20), () => GgufFile.Open(_folder["b.gguf"]).Dispose());
    }

    [TestCase("""{"a": 0, "b": 16777215}""")]
    [TestCase("""{"a": 0, "b": 2147483647}""")]
    [TestCase("""{"a": 0, "b": 300000}""")]
    public void A_vocabulary_with_a_large_id_costs_nothing(string vocabulary)
    {
        File.WriteAllText(_folder["tokenizer.json"], $$$"""{"model": {"type": "WordLevel", "unk_token": "a", "vocab": {{{vocabulary}}}}}""");

        Costs(4 << 20, () => Refuses<InvalidDataException>(() => Tokenizer.Load(_folder["tokenizer.json"]), "the id"));
    }

    [TestCase("""{"tokenizer_class": "T5Tokenizer", "extra_ids": 2000000000}""", "extra ids")]
    [TestCase("""{"added_tokens_decoder": {"2000000000": {"content": "x"}}}""", "the id")]
    public void Settings_of_a_tokenizer_that_claim_many_tokens_cost_nothing(string settings, string says)
    {
        using var folder = new TemporaryFolder();
        File.Copy(SharedFiles.Require("fixtures", "tokenizers", "own", "pieces-model", "tokenizer.model"), folder["tokenizer.model"]);
        File.WriteAllText(folder["tokenizer_config.json"], settings);

        Costs(8 << 20, () => Refuses<InvalidDataException>(() => Tokenizer.Load(folder.Root), says));
    }

    [TestCase("{{ 'a' * 999999999999 }}")]
    [TestCase("{{ [1] * 999999999999 }}")]
    [TestCase("{{ range(99999999999)|list }}")]
    [TestCase("{{ 'a'.ljust(999999999) }}")]
    [TestCase("{{ '%999999999d' % 1 }}")]
    [TestCase("{{ '{:999999999}'.format(1) }}")]
    [TestCase("{{ 'a'|center(999999999) }}")]
    [TestCase("{{ 'a\\nb'|indent(999999999) }}")]
    [TestCase("{{ [1]|batch(999999999, 'x')|list }}")]
    [TestCase("{{ [1]|slice(999999999, 'x')|list }}")]
    [TestCase("{{ 9 ** 99999999 }}")]
    [TestCase("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")]
    [TestCase("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}")]
    [TestCase("{% set x = namespace(a='ab') %}{% for i in range(99) %}{% set x.a = x.a + x.a %}{% endfor %}")]
    [TestCase("{{ 'a\\tb'.expandtabs(999999999) }}")]
    [TestCase("{{ ('a,' * 9999999).split(',')|join('aaaaaaaaaaaaaaaaaaaaa') }}")]
    public void A_template_that_would_fill_the_memory_is_stopped(string text) =>
        Refuses<ChatTemplateException>(() => ChatTemplate.Parse(text, "t").Render(new ChatTemplateInput { Messages = [] }), "");

    [Test]
    public void A_model_folder_runs_no_code_that_its_config_names()
    {
        using var folder = new TemporaryFolder();
        _ = folder.Write("model.py", $"open({System.Text.Json.JsonSerializer.Serialize(folder["ran"])}, 'w')");
        _ = folder.Write("config.json", """{"model_type": "llama", "auto_map": {"AutoConfig": "model.M", "AutoModelForCausalLM": "model.M"}, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 6}""");
        _ = ModelLoader.ReadConfig(ModelFolder.Open(folder.Root));

        Assert.That(folder.Names, Is.EqualTo(new[] { "config.json", "model.py" }));
    }

    [TestCase("[", "cannot be read")]
    [TestCase("(((a+)+)+)+$", "takes more than")]
    public void A_pattern_of_an_adapter_that_is_none_or_never_ends_is_refused(string pattern, string says) =>
        Refuses<InvalidDataException>(() => TargetModules.Of(pattern).Matches(new string('a', 40) + "!"), says);

    [Test]
    public void Names_of_chat_templates_are_never_paths()
    {
        using var folder = new TemporaryFolder();
        var model = folder.Folder("model");
        File.Copy(SharedFiles.Require("fixtures", "tokenizers", "own", "pieces-model", "tokenizer.model"), Path.Combine(model, "tokenizer.model"));
        File.WriteAllText(Path.Combine(model, "config.json"), """{"model_type": "llama"}""");
        File.WriteAllText(Path.Combine(model, "tokenizer_config.json"), """{"chat_template": [{"name": "default", "template": "a"}, {"name": "../../evil", "template": "b"}]}""");

        _ = ModelFolder.Open(model).CopyCompanions(folder.Folder("out"));

        Assert.That(Directory.GetFiles(folder.Root, "*", SearchOption.AllDirectories).Select(static path => Path.GetFileName(path)), Has.None.Contains("evil"));
    }

    private static void Config(string text) => _ = RunConfigFile.Parse("x.yaml", text, []);

    private static void Refuses<T>(Action read, string says)
        where T : Exception => Assert.That(Assert.Throws<T>(read)!.Message, Has.Length.GreaterThan(8).And.Contains(says));

    private static void Costs(long most, Action read)
    {
        read();
        var before = GC.GetAllocatedBytesForCurrentThread();
        read();
        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.LessThan(most));
    }
}
