using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Tests.Data;
using OpenWeights.Tune.Training;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Models;

/// <summary>How long a text a model may be given, and what is said of longer ones.</summary>
public sealed class ContextLimitTests
{
    [TestCase("null", 128)]
    [TestCase("""{ "rope_type": "linear", "factor": 4.0 }""", 512)]
    [TestCase("""{ "type": "dynamic", "factor": 2.0 }""", 256)]
    [TestCase("""{ "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128 }""", 512)]
    [TestCase("""{ "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32 }""", 128)]
    [TestCase("""{ "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16 }""", 128)]
    public void The_room_is_that_after_rope_scaling(string scaling, int tokens)
    {
        using var folder = new TemporaryFolder();
        var path = Path.Combine(TinyModel.Write(folder), "config.json");
        var config = JsonNode.Parse(File.ReadAllText(path))!.AsObject();
        config["rope_scaling"] = JsonNode.Parse(scaling);
        var decoder = OpenWeights.Tune.Models.Families.FamilyRegistry.Read(config, path);
        Assert.That(ContextLimit.Of(decoder).Tokens, Is.EqualTo(tokens), "as vLLM derives it");
    }

    [Test]
    public void Rows_beyond_the_room_are_refused_by_name_unless_a_setting_says_otherwise()
    {
        using var folder = new TemporaryFolder();
        TinyModel.Write(folder);
        folder.Write("rows.jsonl", $"{{\"input_ids\": [{string.Join(", ", Enumerable.Repeat(5, 200))}]}}\n{{\"input_ids\": [1, 2, 3]}}\n");
        var config = new RunConfig
        {
            OutputDir = folder.At("run"),
            Model = new ModelSection { Path = folder.At("model"), Device = "cpu" },
            Adapter = new AdapterSection { Rank = 2 },
            Data = new DataSection { Train = [new DataSource { Path = folder.At("rows.jsonl") }], Packing = false },
            Training = new TrainingSection { MaxSteps = 1 },
        };
        Assert.That(
            () => TrainingRun.Prepare(config, new SilentListener()),
            Throws.InstanceOf<InvalidDataException>().With.Message.Contains("1 of 2 rows is longer than the model's context (128 tokens, max_position_embeddings in its config.json)")
                .And.Message.Contains("rows.jsonl:1 (200)").And.Message.Contains("data.over_length").And.Message.Contains("model.max_positions").And.Message.Not.Contains("Raise data.max_length"));
        var cut = RunDraft.Read(config with { Data = config.Data with { OverLength = "truncate" } }, new SilentListener());
        Assert.That(cut.Data.Train.Rows.Max(static r => r.Ids.Length), Is.EqualTo(128));
        Assert.That(cut.Plan.Train.Changes(2048), Has.One.Contains("cut to 128 tokens"));
        var whole = RunDraft.Read(config with { Model = config.Model with { MaxPositions = 256 } }, new SilentListener());
        Assert.That(whole.Data.Train.Rows.Max(static r => r.Ids.Length), Is.EqualTo(200));
    }

    [Test]
    public void Packed_rows_may_be_longer_than_the_room_since_each_begins_anew()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("rows.jsonl", string.Concat(Enumerable.Repeat("{\"text\": \"abcdefgh\"}\n", 10)));
        var section = new DataSection { Train = [new DataSource { Path = path }], MaxLength = 100, Packing = true };
        var data = RunData.Read(section, new RowTokenizer(new CharacterTokenizer(null), "assistant"), CharacterTokenizer.Vocabulary, seed: 1, room: new ContextLimit(12, "a test"));
        Assert.That(data.Train.Rows[0].Ids, Has.Length.GreaterThan(12));
    }

    [Test]
    public void Generation_ends_where_the_room_ends_and_says_so()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, TestDevice.Current);
        var generator = new TextGenerator(loaded.Model, new GenerationOptions { MaxNewTokens = 1000 });
        var made = generator.Continue([[.. Enumerable.Repeat(5, 100)], [7]]);
        Assert.That(made.Select(static m => (m.OutputIds.Count, m.FinishReason, m.IsFull)), Is.EqualTo(new[] { (28, "length", true), (127, "length", true) }));
        Assert.That(new TextGenerator(loaded.Model, new GenerationOptions { MaxNewTokens = 3 }).Continue([[7]])[0].IsFull, Is.False);
        Assert.That(() => generator.Continue([[.. Enumerable.Repeat(5, 128)]]), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("128 tokens").And.Message.Contains("max_position_embeddings"));
    }
}
