using System.Security.Cryptography;
using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tokenizers;
using OpenWeights.Tokenizers.Templates;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Evaluation.Tasks;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Models;

/// <summary>
/// A real small chat model, SmolLM2-135M-Instruct from its Q4_1 GGUF: template, ids, logits, greedy texts, loss and perplexity against
/// transformers on the same weights, and thirty steps of LoRA.
/// </summary>
public sealed class RealModelTests
{
    private static readonly string[] s_prompts = ["english", "code", "multi-turn", "unicode"];

    private TemporaryFolder? _work;
    private LoadedModel? _loaded;
    private LoadedModel? _packed;
    private Tokenizer _tokenizer = null!;
    private JsonObject _golden = null!;
    private SafetensorsFile? _tensors;

    private CausalLanguageModel Model => _loaded!.Model;

    [OneTimeSetUp]
    public void Load()
    {
        var source = SharedFiles.Require("fixtures", "weights", "smollm2-135m-instruct");
        _golden = JsonNode.Parse(File.ReadAllText(Path.Combine(source, "golden.json")))!.AsObject();
        _tensors = SafetensorsFile.Open(Path.Combine(source, "golden.safetensors"));
        _work = new TemporaryFolder();
        using (var whole = File.Create(_work["model.gguf"]))
        {
            foreach (var part in Directory.GetFiles(source, "model-q4_1.gguf.part*").Order(StringComparer.Ordinal))
            {
                using var stream = File.OpenRead(part);
                stream.CopyTo(whole);
            }
        }

        using (var whole = File.OpenRead(_work["model.gguf"]))
        {
            Assert.That(Convert.ToHexStringLower(SHA256.HashData(whole)), Is.EqualTo("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"), "the parts are joined");
        }

        GgufFolder.Unpack(_work["model.gguf"], _work.Folder("model"));
        _loaded = ModelLoader.Load(_work["model"], float32, TestDevice.Current);
        _packed = TestDevice.Current.type == DeviceType.CPU ? ModelLoader.Load(_work["model"], float32, CPU, keepsBlocks: true) : null;
        _tokenizer = Tokenizer.Load(_work["model"]);
    }

    [OneTimeTearDown]
    public void Clean()
    {
        _tensors?.Dispose();
        _loaded?.Dispose();
        _packed?.Dispose();
        _work?.Dispose();
    }

    [TestCaseSource(nameof(s_prompts))]
    public void Conversations_are_rendered_and_cut_into_the_references_ids(string name)
    {
        var prompt = Prompt(name);
        Assert.That(Render(prompt["messages"]!.AsArray(), addGenerationPrompt: true), Is.EqualTo(prompt["rendered"]!.ToString()));
        Assert.That(_tokenizer.Encode(prompt["rendered"]!.ToString(), addSpecialTokens: false), Is.EqualTo(Ints(prompt["input_ids"]!)));
    }

    [TestCaseSource(nameof(s_prompts))]
    public void Logits_are_the_references(string name)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var logits = Logits(Ints(Prompt(name)["input_ids"]!));
        Assert.That(Golden.LargestDifference(logits.select(0, -1), TensorFiles.Read(_tensors!, $"{name}.last_logits")), Is.LessThan(2e-4 * TestDevice.Slack));
        if (_tensors!.TryGetTensor($"{name}.logits", out _))
        {
            Assert.That(Golden.LargestDifference(logits, TensorFiles.Read(_tensors, $"{name}.logits")), Is.LessThan(2e-4 * TestDevice.Slack), "all rows");
        }
    }

    [TestCaseSource(nameof(s_prompts))]
    public void Greedy_texts_are_the_references(string name)
    {
        var prompt = Prompt(name);
        var generated = new TextGenerator(Model, new GenerationOptions { MaxNewTokens = 32, EndTokens = [2] }).Continue([Ints(prompt["input_ids"]!)])[0];
        Assert.That(_tokenizer.Decode(generated.OutputIds, skipSpecialTokens: true), Is.EqualTo(prompt["greedy_text_skip_special"]!.ToString()));
    }

    [TestCaseSource(nameof(s_prompts))]
    [Category(TestDevice.CpuAlone)]
    public void Packed_weights_give_the_references_greedy_texts_as_well(string name)
    {
        var prompt = Prompt(name);
        var generated = new TextGenerator(_packed!.Model, new GenerationOptions { MaxNewTokens = 32, EndTokens = [2] }).Continue([Ints(prompt["input_ids"]!)])[0];
        Assert.That(_tokenizer.Decode(generated.OutputIds, skipSpecialTokens: true), Is.EqualTo(prompt["greedy_text_skip_special"]!.ToString()));
    }

    [Test]
    [Category(TestDevice.CpuAlone)]
    public void Packed_weights_take_the_bytes_of_the_file()
    {
        var model = _packed!.Model;
        Assert.That(model.ParameterCount, Is.EqualTo(Model.ParameterCount));
        Assert.That(model.ParameterBytes, Is.LessThan(new FileInfo(_work!["model.gguf"]).Length));
        Assert.That(model.HeldBlocks.Select(static held => held.Type), Is.EqualTo(new[] { "Q4_1", "Q8_0" }));
    }

    [Test]
    public void The_loss_of_an_answer_is_the_references()
    {
        var expected = _golden["loss"]!;
        Assert.That(Render(expected["messages"]!.AsArray(), addGenerationPrompt: false), Is.EqualTo(expected["rendered"]!.ToString()));
        var (ids, labels) = (Ints(expected["input_ids"]!), Ints(expected["labels"]!));
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var scores = Scores(ids);
        var trained = Enumerable.Range(1, ids.Length - 1).Where(i => labels[i] >= 0).ToList();
        Assert.That(trained, Has.Count.EqualTo(expected["trained_tokens"]!.GetValue<int>()));
        Assert.That(-trained.Average(i => scores.select(0, i - 1).select(0, labels[i]).ToDouble()), Is.EqualTo(expected["loss"]!.GetValue<double>()).Within(1e-4));
    }

    [Test]
    public void The_perplexity_of_a_text_and_the_probability_of_each_of_its_tokens_are_the_references()
    {
        var expected = _golden["perplexity"]!;
        var ids = _tokenizer.Encode(expected["text"]!.ToString(), addSpecialTokens: false);
        Assert.That(ids, Is.EqualTo(Ints(expected["input_ids"]!)));
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var targets = tensor([.. ids.Skip(1).Select(static i => (long)i)], [ids.Length - 1, 1], device: TestDevice.Current);
        var logprobs = Scores(ids).narrow(0, 0, ids.Length - 1).gather(1, targets).squeeze(1);
        Assert.That(Golden.LargestDifference(logprobs, TensorFiles.Read(_tensors!, "perplexity.logprobs")), Is.LessThan(2e-4 * TestDevice.Slack));
        var perplexity = Math.Exp(-logprobs.mean().ToDouble());
        Assert.That(perplexity, Is.EqualTo(expected["perplexity"]!.GetValue<double>()).Within(1e-3).Percent);
    }

    [Test]
    public void Multiple_choice_has_the_log_likelihoods_and_accuracies_of_EleutherAIs_harness()
    {
        var golden = JsonNode.Parse(File.ReadAllText(SharedFiles.Require("fixtures", "benchmark", "golden.json")))!;
        var task = TaskFile.Read(SharedFiles.Require("fixtures", "benchmark", "questions.jsonl")).Single();
        var runner = new TaskRunner(task, _tokenizer, [2]);
        var result = runner.Run(Model, batchSize: 16, CancellationToken.None);
        Assert.That(result.Answers, Has.Count.EqualTo(24));
        foreach (var (row, answer) in golden["rows"]!.AsArray().Zip(result.Answers))
        {
            double[] expected = [.. row!["loglikelihood"]!.AsArray().Select(static v => v!.GetValue<double>())];
            Assert.That(answer.LogLikelihoods, Is.EqualTo(expected).Within(5e-4 * TestDevice.Slack), answer.Prompt);
            Assert.That((answer.Scores["acc"], answer.Scores["acc_norm"]), Is.EqualTo((row["acc"]!.GetValue<double>(), row["acc_norm"]!.GetValue<double>())), answer.Prompt);
        }

        foreach (var metric in new[] { "acc", "acc_norm" })
        {
            Assert.That(result.Of(metric).Value, Is.EqualTo(golden[metric]!.GetValue<double>()));
            Assert.That(result.Of(metric).StandardError, Is.EqualTo(golden[$"{metric}_stderr"]!.GetValue<double>()).Within(1e-12));
        }
    }

    // As on a GPU without bfloat16: float16 weights, float32 trained ones, and a scaled loss.
    [Test]
    [Category(TestDevice.CpuAlone)]
    public void In_float16_nothing_of_a_trained_model_overflows_forward_or_backward()
    {
        const int Scale = 1 << 6;
        var ids = Ints(_golden["loss"]!["input_ids"]!)[..16];
        (double Loss, double Norm) Step(ScalarType dtype)
        {
            using var loaded = ModelLoader.Load(_work!["model"], dtype, CPU);
            using var adapter = PeftAdapter.Create(loaded.Model, new LoraConfig { Rank = 4, Alpha = 8 }, seed: 1);
            using var scope = NewDisposeScope();
            using Scalar scale = Scale;
            var loss = new SupervisedObjective().LossSum(loaded.Model, TokenBatch.Of([new TokenRow(ids, ids, "row")], padId: 0, CPU));
            loss.mul(scale).backward();
            return (loss.ToDouble() / (ids.Length - 1), Math.Sqrt(adapter.Parameters.Sum(static p => Math.Pow(p.Parameter.grad!.to(float64).norm().ToDouble() / Scale, 2))));
        }

        var (exact, half) = (Step(float32), Step(float16));

        // Processors that multiply float16 themselves (AVX512-FP16) add the products in it too, and differ by 0.0108 of 6.55; others by less than 0.01.
        Assert.That(half.Loss, Is.EqualTo(exact.Loss).Within(0.3).Percent);
        Assert.That(half.Norm, Is.EqualTo(exact.Norm).Within(3).Percent);
    }

    // The loss on the test rows is 1.410 before and was measured as 1.013 after; what is asked for leaves room for another order of the rows.
    [Test]
    [Category(TestDevice.CpuAlone)]
    public void Twelve_steps_of_LoRA_on_sums_bring_the_loss_on_rows_not_trained_on_from_1_4_below_1_1()
    {
        DataSource Rows(string name, int count) => new() { Path = SharedFiles.Require("fixtures", "datasets", name), Limit = count };
        double Loss(string name, TrainingSection training)
        {
            var listener = new SilentListener();
            var config = new RunConfig
            {
                OutputDir = _work!.At(name),
                Model = new ModelSection { Path = _work["model"], Dtype = "float32", Device = TestDevice.Name },
                Adapter = new AdapterSection { Rank = 16, LoraAlpha = 32 },
                Data = new DataSection { Train = [Rows("gsm8k-train-head.jsonl", 400)], Eval = [Rows("gsm8k-test.jsonl", 20)], Packing = false },
                Training = training with { MicroBatchSize = 4 },
                Evaluation = new EvaluationSection { EverySteps = 0, GenerateRows = 0 },
                Checkpoint = new CheckpointSection { EverySteps = 0 },
            };
            using var run = TrainingRun.Prepare(config, listener);
            run.Run(overwrite: false, "test", CancellationToken.None);
            return listener.Evaluations.Single().Loss;
        }

        Assert.That(Loss("before", new TrainingSection { MaxSteps = 1, LearningRate = 0 }), Is.EqualTo(1.410).Within(0.001));
        Assert.That(Loss("after", new TrainingSection { MaxSteps = 12, LearningRate = 1e-3, LrScheduler = "cosine", WarmupSteps = 3 }), Is.LessThan(1.1).And.GreaterThan(0.5));
    }

    private static int[] Ints(JsonNode list) => [.. list.AsArray().Select(static v => v!.GetValue<int>())];

    private JsonNode Prompt(string name) => _golden["prompts"]!.AsArray().Single(p => p!["name"]!.ToString() == name)!;

    private string Render(JsonArray messages, bool addGenerationPrompt) =>
        ChatTemplate.Parse(_tokenizer.ChatTemplateText!, "the model's template").Render(new ChatTemplateInput { Messages = messages, AddGenerationPrompt = addGenerationPrompt, SpecialTokens = _tokenizer.SpecialTokens });

    private Tensor Logits(int[] ids) =>
        Model.Logits(Model.call(ModelInput.Rows(tensor([.. ids.Select(static i => (long)i)], [1, ids.Length], device: TestDevice.Current)))).squeeze(0);

    private Tensor Scores(int[] ids) => Logits(ids).to(float64).log_softmax(-1);
}
