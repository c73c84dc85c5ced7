using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Testing;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Export.Gguf;
using OpenWeights.Tune.Init;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Training;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Export;

/// <summary>What a run leaves for others: its chat template and ends go with it, and the places of this machine stay here.</summary>
public sealed class SharedResultTests
{
    private const string OtherTemplate = "{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";

    [Test]
    public void Weights_that_were_trained_on_chats_declare_the_end_of_their_turns()
    {
        using var work = new TemporaryFolder();
        var result = Train(work, adapter: null, template: null);
        var generation = JsonNode.Parse(File.ReadAllText(Path.Combine(result, "generation_config.json")))!;
        Assert.That(generation["eos_token_id"]!.ToJsonString(), Is.EqualTo($"[{SmallTokenizer.Eos},{SmallTokenizer.TurnEnd}]"));
        Assert.That(ModelFolder.Open(result).EosTokenIds, Is.EqualTo(new[] { SmallTokenizer.Eos, SmallTokenizer.TurnEnd }));
    }

    [Test]
    public void An_adapter_that_was_trained_on_chats_is_merged_with_the_end_of_their_turns_and_told()
    {
        using var work = new TemporaryFolder();
        var listener = new SilentListener();
        var result = Train(work, new AdapterSection { Rank = 2 }, template: null, listener);
        Assert.That(listener.Warnings, Has.One.Contains("<|im_end|>"));
        using var loaded = ModelLoader.Load(work.At("model"), float32, TestDevice.Current);
        using var adapter = PeftFolder.Load(loaded.Model, result);
        _ = MergedExport.Write(loaded, adapter, work.At("merged"), null, 1 << 30);
        Assert.That(ModelFolder.Open(work.At("merged")).EosTokenIds, Does.Contain(SmallTokenizer.TurnEnd));
        _ = GgufExport.Write(loaded.Folder, null, work.At("model.gguf"), GgufPreset.Of("f32"));
        using var file = GgufFile.Open(work.At("model.gguf"));
        Assert.That(file.Metadata.Single(static m => m.Key == "tokenizer.ggml.eot_token_id").Value, Is.EqualTo((uint)SmallTokenizer.TurnEnd));
    }

    [TestCase("chatml")]
    [TestCase("rag")]
    [TestCase("other.jinja")]
    public void Another_chat_template_is_trained_with_and_saved_with_the_result(string template)
    {
        using var work = new TemporaryFolder();
        var path = work.Write("other.jinja", OtherTemplate);
        var expected = template switch
        {
            "chatml" => NamedTemplates.All["chatml"],
            _ => OtherTemplate,
        };
        foreach (var adapter in new[] { null, new AdapterSection { Rank = 2 } })
        {
            var result = Train(work, adapter, template == "other.jinja" ? path : template, null, change: s => s["chat_template"] = new JsonArray(
                new JsonObject { ["name"] = "default", ["template"] = "{{ raise_exception('the models own') }}" }, new JsonObject { ["name"] = "rag", ["template"] = OtherTemplate }));
            if (adapter is null)
            {
                Assert.That(Tokenizer.Load(result).ChatTemplateText, Is.EqualTo(expected));
            }
            else
            {
                Assert.That(PeftFolder.ChatTemplate(result), Is.EqualTo(expected));
            }
        }
    }

    [Test]
    public void Values_of_a_templates_variables_are_trained_with_and_saved_with_the_result()
    {
        const string template = "{% for m in messages %}{{ '<' + m.role + '>' + m.content }}{% if not loop.last or is_training %}{{ eos_token }}{% endif %}{% endfor %}{{ mood }}{% if add_generation_prompt %}<assistant>{% endif %}";
        using var work = new TemporaryFolder();
        var values = new Dictionary<string, object?> { ["is_training"] = true, ["mood"] = "it's \"fine\"" };
        foreach (var adapter in new[] { null, new AdapterSection { Rank = 2 } })
        {
            var result = Train(work, adapter, template: null, change: s => s["chat_template"] = template, values: values);
            var tokenizer = adapter is null ? Tokenizer.Load(result) : Tokenizer.Load(work.At("model")).WithChatTemplate(PeftFolder.ChatTemplate(result)!);
            Assert.That(new ChatRenderer(tokenizer).Render([Message("user", "q"), Message("assistant", "a")], tools: null, addGenerationPrompt: false), Is.EqualTo("<user>q</s><assistant>a</s>it's \"fine\""));
        }
    }

    [Test]
    public void Values_for_a_template_that_there_is_not_are_refused()
    {
        using var work = new TemporaryFolder();
        Assert.That(
            () => Train(work, null, null, change: static s => s.Remove("chat_template"), values: new Dictionary<string, object?> { ["x"] = 1L }),
            Throws.InstanceOf<InvalidDataException>().With.Message.Contains("has no chat template for chat_template_kwargs to apply to"));
    }

    [Test]
    public void A_template_that_there_is_not_is_told_with_those_that_there_are()
    {
        using var work = new TemporaryFolder();
        Assert.That(() => Train(work, null, "chatlm"), Throws.InstanceOf<ConfigException>().With.Message.Contains("chatlm").And.Message.Contains("chatml").And.Message.Contains("default"));
    }

    [TestCase("chatml", "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\nR<|im_end|>\n<|im_start|>assistant\n")]
    [TestCase("llama3", "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nQ<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nR<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n")]
    [TestCase("gemma", "<s><start_of_turn>user\nS\n\nQ<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n<start_of_turn>user\nR<end_of_turn>\n<start_of_turn>model\n")]
    [TestCase("mistral", "<s>[INST] S\n\nQ [/INST] A</s>[INST] R [/INST]")]
    [TestCase("phi3", "<|system|>\nS<|end|>\n<|user|>\nQ<|end|>\n<|assistant|>\nA<|end|>\n<|user|>\nR<|end|>\n<|assistant|>\n")]
    [TestCase("zephyr", "<|system|>\nS</s>\n<|user|>\nQ</s>\n<|assistant|>\nA</s>\n<|user|>\nR</s>\n<|assistant|>\n")]
    [TestCase("alpaca", "S\n\n### Instruction:\nQ\n\n### Response:\nA</s>\n\n### Instruction:\nR\n\n### Response:\n")]
    public void The_templates_by_name_write_what_their_models_read(string name, string expected)
    {
        using var work = new TemporaryFolder();
        SmallTokenizer.Write(work.Root);
        var chat = new ChatRenderer(Tokenizer.Load(work.Root).WithChatTemplate(NamedTemplates.All[name]));
        JsonNode[] messages = [Message("system", "S"), Message("user", "Q"), Message("assistant", "A"), Message("user", "R")];
        Assert.That(chat.Render(new JsonArray(messages), tools: null, addGenerationPrompt: true), Is.EqualTo(expected));
        var trained = chat.RenderForTraining([Message("user", "Q"), Message("assistant", "yes")], null, new TrainedTurns(All: false, LastAlone: false, static _ => true));
        Assert.That(string.Concat(trained.Trained.Select(r => trained.Text[r])).Trim(), Does.StartWith("yes"));
    }

    [Test]
    public void Chat_templates_beside_the_main_one_are_in_the_GGUF_and_read_again()
    {
        using var work = new TemporaryFolder();
        Model(work, static s => s["chat_template"] = new JsonArray(
            new JsonObject { ["name"] = "default", ["template"] = SmallTokenizer.ChatMl }, new JsonObject { ["name"] = "tool_use", ["template"] = OtherTemplate }));
        _ = GgufExport.Write(ModelFolder.Open(work.At("model")), null, work.At("model.gguf"), GgufPreset.Of("f32"));
        using (var file = GgufFile.Open(work.At("model.gguf")))
        {
            var keys = file.Metadata.ToDictionary(static m => m.Key, static m => m.Value);
            Assert.That(keys["tokenizer.chat_templates"], Is.EqualTo(new[] { "tool_use" }));
            Assert.That((keys["tokenizer.chat_template.tool_use"], keys["tokenizer.chat_template"]), Is.EqualTo((OtherTemplate, SmallTokenizer.ChatMl)));
        }

        foreach (var folder in new[] { GgufFolder.Unpack(work.At("model.gguf")), GgufFolder.UnpackTokenizer(work.At("model.gguf")) })
        {
            var tokenizer = Tokenizer.Load(folder);
            Assert.That((tokenizer.ChatTemplateFor(withTools: true), tokenizer.ChatTemplateFor(withTools: false)), Is.EqualTo((OtherTemplate, SmallTokenizer.ChatMl)));
        }
    }

    [TestCase(true, true)]
    [TestCase(false, true)]
    [TestCase(false, false)]
    public void What_is_put_around_a_text_is_in_the_GGUF(bool bos, bool eos)
    {
        using var work = new TemporaryFolder();
        Model(work, s => (s["add_bos_token"], s["add_eos_token"]) = (bos, eos));
        _ = GgufExport.Write(ModelFolder.Open(work.At("model")), null, work.At("model.gguf"), GgufPreset.Of("f32"));
        Assert.That(Tokenizer.Load(GgufFolder.UnpackTokenizer(work.At("model.gguf"))).Encode("a", addSpecialTokens: true), Is.EqualTo(Tokenizer.Load(work.At("model")).Encode("a", addSpecialTokens: true)));
    }

    [Test]
    public void Adapter_and_card_name_the_base_and_no_place()
    {
        using var work = new TemporaryFolder();
        var result = Train(work, new AdapterSection { Rank = 2 }, template: null);
        Assert.That(AdapterFolder.Open(result).Config["base_model_name_or_path"]!.ToString(), Is.EqualTo("model"));
        var card = ModelCard.Write(ModelFolder.Open(work.At("model")), ModelPath.NameOf(work.At("model")), [(result, 1)]);
        Assert.That(card, Does.Contain("base_model: \"model\"").And.Contains("path: \"rows.jsonl\"").And.Contains("max_steps: 2"));
        Assert.That(card, Does.Not.Contain(work.Root));
        Assert.That(ModelCard.WithoutPlaces("a: \"/home/me/x y/rows.jsonl\"\nb: \"select * from '/home/me/t.parquet' where a/b > 1\"\nc: \"org/name\"\nd: \"~/m\"\n"),
            Is.EqualTo("a: \"rows.jsonl\"\nb: \"select * from 't.parquet' where a/b > 1\"\nc: \"org/name\"\nd: \"m\"\n"));
    }

    [Test]
    public void A_run_that_goes_on_over_other_rows_or_another_base_says_so()
    {
        using var work = new TemporaryFolder();
        List<string> Run(bool resume, long steps)
        {
            var listener = new SilentListener();
            _ = Train(work, new AdapterSection { Rank = 2 }, template: null, listener, resume: resume, steps: steps);
            return listener.Warnings;
        }

        _ = Run(resume: false, 2);
        Assert.That(Run(resume: true, 3), Has.None.Contains("changed since the run was started"));
        File.AppendAllText(work.At("rows.jsonl"), Rows(1));
        Assert.That(Run(resume: true, 4), Has.One.Contains("the data (rows.jsonl) changed since the run was started"));
        Assert.That(Run(resume: true, 5), Has.One.Contains("the data (rows.jsonl)"), "and again, since the first steps stay what they are");
        var config = work.At("model", "config.json");
        File.WriteAllText(config, File.ReadAllText(config) + " ");
        Assert.That(Run(resume: true, 6), Has.One.Contains("the base model's files (config.json)").And.One.Contains("the data (rows.jsonl)"));
    }

    private static JsonObject Message(string role, string content) => new() { ["role"] = role, ["content"] = content };

    private static string Rows(int count) => string.Concat(Enumerable.Repeat("""{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "an answer"}]}""" + "\n", count));

    private static void Model(TemporaryFolder work, Action<JsonObject>? change)
    {
        if (Directory.Exists(work.At("model")))
        {
            return;
        }

        var shape = new ModelShape { HiddenSize = 32, IntermediateSize = 48, Layers = 1, Heads = 4, KeyValueHeads = 2, VocabularySize = SmallTokenizer.Vocabulary, MaxPositions = 128, BosToken = SmallTokenizer.Bos, EosToken = SmallTokenizer.Eos };
        NewModel.Write("llama", shape, seed: 7, float32, work.At("model"), folder => SmallTokenizer.Write(folder, change: change));
    }

    private static string Train(
        TemporaryFolder work, AdapterSection? adapter, string? template, SilentListener? listener = null, Action<JsonObject>? change = null, bool resume = false, long steps = 2, Dictionary<string, object?>? values = null)
    {
        Model(work, change);
        if (!File.Exists(work.At("rows.jsonl")))
        {
            work.Write("rows.jsonl", Rows(4));
        }

        var config = new RunConfig
        {
            OutputDir = work.At(adapter is null ? "full" : "adapted"),
            Model = new ModelSection { Path = work.At("model"), Device = "cpu", ChatTemplate = template },
            Adapter = adapter,
            Data = new DataSection { Train = [new DataSource { Path = work.At("rows.jsonl") }], Packing = false, MaxLength = 100, ChatTemplateKwargs = values ?? [] },
            Training = new TrainingSection { MaxSteps = steps, LearningRate = 1e-3, WarmupSteps = 0, MicroBatchSize = 2 },
            Checkpoint = new CheckpointSection { EverySteps = 1 },
        };
        using var run = TrainingRun.Prepare(config, listener ?? new SilentListener(), new RunOptions(Resume: resume));
        return run.Run(overwrite: false, "test", CancellationToken.None)!;
    }
}
