using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.LlamaCpp;
using OpenWeights.Testing;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Export.Gguf;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Training;

/// <summary>model.new_tokens: rows of embedding and head, tokenizer and model, as transformers, PEFT and llama.cpp read them.</summary>
public sealed class NewTokensTests
{
    private const string Text = "<tool>five of March<end>";
    private static readonly string s_base = Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base");
    private static readonly Tokenizer s_tokenizer = Tokenizer.Load(s_base);
    private TemporaryFolder _work = null!;

    [SetUp]
    public void Begin() => _work = new TemporaryFolder();

    [TearDown]
    public void Clean() => _work.Dispose();

    [TestCase(false)]
    [TestCase(true)]
    public void Rows_start_as_the_mean_of_all_tokens_or_of_the_words_that_describe_them(bool whole)
    {
        using var scope = NewDisposeScope();
        var adapter = Train(Adapter(whole), rate: 0);
        var (ids, expected) = Expected();
        using var weights = AdapterFolder.Open(adapter).OpenWeights();
        var name = whole ? "base_model.model.model.embed_tokens.weight" : "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta";
        var stored = TensorFiles.Read(weights, name).to(float32);
        var rows = whole ? stored.index_select(0, ids) : stored;
        Assert.That(rows.sub(expected).abs().max().ToDouble(), Is.LessThan(1e-6), string.Join(", ", weights.Tensors.Select(static t => t.Name)));
    }

    [Test]
    public void An_adapter_has_the_tokenizer_trains_the_rows_and_is_read_back_and_merged_with_both()
    {
        using var scope = NewDisposeScope();
        var adapter = Train(Adapter(whole: false), rate: 1e-2);
        var tokenizer = Tokenizer.Load(adapter);
        var first = s_tokenizer.VocabularySize;
        Assert.That((tokenizer.TokenToId("<tool>"), tokenizer.TokenToId("<end>"), tokenizer.IsSpecial(first + 1)), Is.EqualTo((first, first + 1, true)));
        Assert.That(tokenizer.Encode("five March", addSpecialTokens: false), Is.EqualTo(s_tokenizer.Encode("five March", addSpecialTokens: false)), "other texts are cut as before");
        var config = AdapterFolder.Open(adapter).Config;
        Assert.That(config["base_model_name_or_path"]!.ToString(), Is.EqualTo("base"));
        Assert.That(config["trainable_token_indices"]!.ToJsonString(), Does.Contain($"[{first},{first + 1}]"));

        // The base with the adapter's tokenizer, as every command reads it.
        var folder = NewTokens.FolderFor(s_base, [adapter]);
        Assert.That(folder, Is.Not.EqualTo(s_base));
        Assert.That(NewTokens.FolderFor(s_base, []), Is.EqualTo(s_base));
        using var loaded = ModelLoader.Load(folder, float32, CPU);
        using var set = new AdapterSet(loaded.Model);
        _ = set.Load("a", adapter);
        set.Use(("a", 1));
        var ids = tokenizer.Encode(Text, addSpecialTokens: false);
        Assert.That(ids[0], Is.EqualTo(first));
        Assert.That(ids[^1], Is.EqualTo(first + 1));
        var logits = Logits(loaded, ids);
        var (_, started) = Expected();
        var trained = set["a"].Parameters.Single(static p => p.Name.EndsWith("trainable_tokens_delta", StringComparison.Ordinal)).Parameter.detach();
        Assert.That(trained.sub(started).abs().max().ToDouble(), Is.GreaterThan(1e-4), "trained");

        _ = MergedExport.Write(loaded, set.Active!, _work["merged"], dtype: null, maxShardBytes: 1L << 30);
        using var merged = ModelLoader.Load(_work["merged"], float32, CPU);
        Assert.That(Logits(merged, Tokenizer.Load(_work["merged"]).Encode(Text, addSpecialTokens: false)).sub(logits).abs().max().ToDouble(), Is.LessThan(1e-4));
        Assert.That(merged.Folder.Config["vocab_size"]!.GetValue<int>(), Is.EqualTo(merged.Model.Stack.Embedding.Weight.size(0)));
        Read(merged, ids);
    }

    [Test]
    public void A_model_trained_whole_is_saved_with_its_tokens()
    {
        using var scope = NewDisposeScope();
        var model = Train(null, rate: 0);
        using var loaded = ModelLoader.Load(model, float32, CPU);
        var tokenizer = Tokenizer.Load(model);
        Assert.That(loaded.Folder.Config["vocab_size"]!.GetValue<int>(), Is.EqualTo(loaded.Model.Stack.Embedding.Weight.size(0)).And.GreaterThanOrEqualTo(tokenizer.VocabularySize));
        var (ids, expected) = Expected();
        Assert.That(loaded.Model.Stack.Embedding.Weight.index_select(0, ids).to(float32).sub(expected).abs().max().ToDouble(), Is.LessThan(1e-6));
        Read(loaded, tokenizer.Encode(Text, addSpecialTokens: false));
    }

    [Test]
    public void A_token_that_is_there_and_an_adapter_that_cannot_have_new_ones_are_refused()
    {
        var known = s_tokenizer.IdToToken(20)!;
        Assert.That(() => Prepare(Adapter(whole: false), 0, new NewTokenSection { Token = known }), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("is token 20 of the model already"));
        Assert.That(() => Prepare(new AdapterSection { Type = "vera" }, 0), Throws.TypeOf<ConfigException>().With.Message.Contains("trains no rows of tokens"));
        var file = RunConfigFile.Parse(_work["x.yaml"], "output_dir: x\nmodel: { path: base, new_tokens: [<a>, { token: <b>, words: two words, special: true }] }\ndata: { train: rows.jsonl }\n", []);
        Assert.That(file.Config.Model.NewTokens, Is.EqualTo(new[] { new NewTokenSection { Token = "<a>" }, new NewTokenSection { Token = "<b>", Words = "two words", Special = true } }));
    }

    // llama.cpp cuts the text into the same tokens and computes the same.
    private void Read(LoadedModel loaded, int[] ids)
    {
        RequiredLlamaCpp.Check();
        _ = GgufExport.Write(loaded.Folder, null, _work["model.gguf"], GgufPreset.Of("f32"));
        using var theirs = new LlamaModel(_work["model.gguf"]);
        Assert.That(theirs.Tokens(Text), Is.EqualTo(ids));
        var logits = theirs.Logits(ids);
        Assert.That(tensor(logits.SelectMany(static r => r).ToArray(), [logits.Length, logits[0].Length]).sub(Logits(loaded, ids)).abs().max().ToDouble(), Is.LessThan(1e-3));
    }

    private static Tensor Logits(LoadedModel loaded, int[] ids)
    {
        using var nothing = no_grad();
        var input = ModelInput.Rows(tensor([.. ids.Select(static i => (long)i)], [1, ids.Length]));
        return loaded.Model.Logits(loaded.Model.call(input), input).squeeze(0);
    }

    private static (Tensor Ids, Tensor Rows) Expected()
    {
        using var weights = ModelFolder.Open(s_base).OpenWeights();
        var embedding = TensorFiles.Read(weights, "model.embed_tokens.weight").to(float32);
        var words = tensor([.. s_tokenizer.Encode(" five March", addSpecialTokens: false).Select(static i => (long)i)]);
        var known = embedding.narrow(0, 0, Math.Min(s_tokenizer.VocabularySize, embedding.size(0)));
        return (tensor(new[] { (long)s_tokenizer.VocabularySize, s_tokenizer.VocabularySize + 1 }), stack([known.mean([0L]), embedding.index_select(0, words).mean([0L])]));
    }

    private static AdapterSection Adapter(bool whole) => new() { Rank = 4, LoraAlpha = 8, ModulesToSave = whole ? ["embed_tokens"] : [] };

    private string Train(AdapterSection? adapter, double rate)
    {
        using var run = Prepare(adapter, rate);
        return run.Run(overwrite: false, "test", CancellationToken.None)!;
    }

    private TrainingRun Prepare(AdapterSection? adapter, double rate, NewTokenSection? first = null)
    {
        var rows = _work.Write("rows.jsonl", string.Concat(Enumerable.Repeat(new JsonObject { ["text"] = Text }.ToJsonString() + "\n", 8)));
        return TrainingRun.Prepare(new RunConfig
        {
            OutputDir = _work["run"],
            Model = new ModelSection { Path = s_base, Device = "cpu", Dtype = "float32", NewTokens = [first ?? new NewTokenSection { Token = "<tool>" }, new NewTokenSection { Token = "<end>", Words = "five March", Special = true }] },
            Adapter = adapter,
            Data = new DataSection { Train = [new DataSource { Path = rows }], Packing = false },
            Training = new TrainingSection { MaxSteps = 3, MicroBatchSize = 4, LearningRate = rate, WarmupSteps = 0 },
            Evaluation = new EvaluationSection { GenerateRows = 0 },
            Checkpoint = new CheckpointSection { EverySteps = 0 },
        }, new SilentListener());
    }
}
