using System.Runtime.InteropServices;
using NUnit.Framework;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Optimizers;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Training;

/// <summary>Factors of the learning rate by name, the moving average of the weights, and what an optimizer trains of a model.</summary>
public sealed class RatesAndAveragesTests
{
    private static readonly string[] s_names = ["model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight", "model.layers.10.mlp.up_proj.weight", "model.layers.1.self_attn.q_proj.lora_B.weight"];

    [TestCase("embed", 0)]
    [TestCase("layers.1", 1, 3)]
    [TestCase("layers.1.", 1, 3)]
    [TestCase("lora_B", 3)]
    [TestCase("mlp.*weight$", 1, 2)]
    [TestCase(@"layers\.(1|10)\.mlp", 1, 2)]
    public void A_pattern_is_a_piece_of_a_name_that_cuts_no_number_or_a_regular_expression(string pattern, params int[] matching) =>
        Assert.That(s_names.Select((name, i) => NamePattern.Matches(pattern, name) ? i : -1).Where(static i => i >= 0), Is.EqualTo(matching));

    [Test]
    public void The_first_pattern_that_matches_gives_the_factor()
    {
        List<TrainedParameter> parameters = [.. s_names.Select(static n => new TrainedParameter(n, new Parameter(zeros([1])), Decays: true, RateFactor: 2))];
        var rates = new Dictionary<string, double> { ["q_proj"] = 0, ["layers.1"] = 0.25, ["layers"] = 0.5 };
        Assert.That(NamedRates.Apply(parameters, rates).Select(static p => p.RateFactor), Is.EqualTo(new[] { 2.0, 0.5, 1, 0 }));
    }

    [Test]
    public void A_pattern_that_no_parameter_has_is_told_with_names_that_there_are()
    {
        using var folder = new TemporaryFolder();
        var config = Config(folder) with { Adapter = new AdapterSection { Rank = 2 } };
        config = config with { Training = config.Training with { Rates = new Dictionary<string, double> { ["lora_B"] = 16, ["embed"] = 0.1 } } };
        var refusal = Assert.Throws<ConfigException>(() => TrainingRun.Prepare(config, new SilentListener()))!;
        Assert.That(refusal.Problems.Select(static p => p.Key), Is.EqualTo(new[] { "training.rates.embed" }));
        Assert.That(refusal.Message, Does.Contain("lora_A.weight"));
    }

    [TestCase("training: { rates: { 'layers.(': 2 } }", "training.rates.layers.(", "neither a piece of a name nor a regular expression")]
    [TestCase("training: { optimizer: schedule_free_adamw, lr_scheduler: linear }", "training.lr_scheduler", "without a schedule; remove lr_scheduler")]
    [TestCase("training: { optimizer: schedule_free_adamw, ema: { decay: 0.9 } }", "training.ema", "averages the weights itself")]
    [TestCase("training: { optimizer: muon, muon: { ns_coefficients: [1, 2] } }", "training.muon.ns_coefficients", "three numbers are expected")]
    [TestCase("training: { optimizer: adafactor_torch, adafactor: { relative_step: true } }", "training.adafactor", "adafactor_torch has none of them")]
    [TestCase("training: { optimizer: lora_fa }", "training.optimizer", "there is no adapter section")]
    [TestCase("training: { ema: { decay: 1 } }", "training.ema.decay", "from 0 to 0.9999999")]
    [TestCase("training: { optimizer: galore_adamw, galore: { rnk: 4 } }", "training.galore.rnk", "did you mean rank?")]
    public void What_does_not_go_together_is_told_with_its_setting(string settings, string key, string message)
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("train.yaml", $"output_dir: x\nmodel: {{ path: base }}\ndata: {{ train: rows.jsonl }}\n{settings}\n");
        var problems = Assert.Throws<ConfigException>(() => RunConfigFile.Read(path, []))!.Problems;
        Assert.That(problems.Where(p => p.Key == key).Select(static p => p.Message), Has.Some.Contains(message));
    }

    [Test]
    public void The_average_is_evaluated_and_saved_and_the_run_goes_on_from_the_last_weights()
    {
        using var folder = new TemporaryFolder();
        var plain = Config(folder);
        var listener = new SilentListener();
        Run(plain with { OutputDir = folder.At("plain") }, new SilentListener());
        Run(plain with { OutputDir = folder.At("averaged"), Training = plain.Training with { Ema = new EmaSection { Decay = 0.75 } } }, listener);

        // The formula, from the weights in the plain run's checkpoints.
        Dictionary<string, double[]> average = Weights(plain.Model.Path);
        for (var step = 1; step <= 6; step++)
        {
            foreach (var (name, values) in Weights(folder.At("plain", "checkpoints", $"step-{step:D8}", "weights")))
            {
                average[name] = [.. average[name].Zip(values, static (a, w) => (0.75 * a) + (0.25 * w))];
            }
        }

        foreach (var (name, values) in Weights(folder.At("averaged", "model")))
        {
            Assert.That(values, Is.EqualTo(average[name]).Within(1e-6), name);
        }

        var last = File.ReadAllBytes(folder.At("averaged", "checkpoints", "step-00000006", "weights", "model.safetensors"));
        Assert.That(last, Is.EqualTo(File.ReadAllBytes(folder.At("plain", "model", "model.safetensors"))), "averages change no step");
        var again = new SilentListener();
        Run(plain with { OutputDir = folder.At("again"), Model = plain.Model with { Path = folder.At("averaged", "model") }, Training = plain.Training with { MaxSteps = 1, LearningRate = 0 } }, again);
        Assert.That(listener.Evaluations[^1].Loss, Is.EqualTo(again.Evaluations[^1].Loss).Within(1e-6), "evaluated is what is saved");
    }

    [Test]
    public void The_average_of_a_bfloat16_model_is_that_of_its_exact_weights()
    {
        using var scope = NewDisposeScope();
        var parameter = new Parameter(ones([4096], bfloat16, TestDevice.Current));
        List<TrainedParameter> trained = [new("w", parameter, Decays: false)];
        using var optimizer = OptimizerKinds.Create(trained, new TrainingSection { Optimizer = "sgd", WeightDecay = 0 });
        using var average = new WeightAverage(trained, optimizer, 0.5);
        for (var step = 0; step < 3; step++)
        {
            parameter.grad = ones_like(parameter);
            optimizer.Step(1e-4);
            average.Add();
        }

        // 1 - 1e-4 (1/8 + 2/4 + 3/2), far below bfloat16's last bit.
        Assert.That(average.Averaged(0).min().ToDouble(), Is.EqualTo(1 - (1e-4 * 2.125)).Within(2e-7));
    }

    [Test]
    public void Matrices_of_hidden_layers_are_told_from_embeddings_heads_and_vectors()
    {
        using var folder = new TemporaryFolder();
        var path = TinyModel.Write(folder);
        using var full = new FullTraining(ModelLoader.Load(path, float32, TestDevice.Current), decayNormsAndBiases: false);
        var hidden = full.Parameters.Where(static p => p.IsHiddenMatrix).Select(static p => p.Name).ToList();
        Assert.That(hidden, Has.All.Contain("_proj.weight"));
        Assert.That(full.Parameters.Except(full.Parameters.Where(static p => p.IsHiddenMatrix)).Select(static p => p.Name), Has.None.Contain("_proj.weight"));
        Assert.That(hidden, Has.Count.EqualTo(7 * full.Model.Config.LayerCount));
    }

    [Test]
    public void LoRA_FA_trains_no_A_and_saves_it_all_the_same()
    {
        using var folder = new TemporaryFolder();
        var config = Config(folder) with { Adapter = new AdapterSection { Rank = 2 } };
        Run(config with { Training = config.Training with { Optimizer = "lora_fa" } }, new SilentListener());
        using var adapter = AdapterFolder.Open(folder.At("run", "adapter")).OpenWeights();
        using var first = AdapterFolder.Open(folder.At("run", "checkpoints", "step-00000001", "weights")).OpenWeights();
        foreach (var name in adapter.Tensors.Select(static t => t.Name))
        {
            using var scope = NewDisposeScope();
            var moved = Golden.LargestDifference(TensorFiles.Read(adapter, name), TensorFiles.Read(first, name));
            Assert.That(moved, name.Contains("lora_A", StringComparison.Ordinal) ? Is.Zero : Is.GreaterThan(0), name);
        }

        using var state = SafetensorsFile.Open(folder.At("run", "checkpoints", "step-00000006", "optimizer.safetensors"));
        Assert.That(state.Tensors.Select(static t => t.Name), Has.None.Contain("lora_A"));
    }

    private static void Run(RunConfig config, SilentListener listener)
    {
        using var run = TrainingRun.Prepare(config, listener);
        Assert.That(run.Run(overwrite: false, "test", CancellationToken.None), Is.Not.Null);
    }

    private static Dictionary<string, double[]> Weights(string folder)
    {
        using var weights = ModelFolder.Open(folder).OpenWeights();
        using var scope = NewDisposeScope();
        return weights.Tensors.ToDictionary(static t => t.Name, t => MemoryMarshal.Cast<byte, float>(TensorFiles.Read(weights, t.Name).to(float32).contiguous().bytes).ToArray().Select(static v => (double)v).ToArray());
    }

    private static RunConfig Config(TemporaryFolder folder)
    {
        TinyModel.Write(folder);
        TinyModel.WriteRows(folder, 13);
        return new RunConfig
        {
            OutputDir = folder.At("run"),
            Model = new ModelSection { Path = folder.At("model"), Device = TestDevice.Name, Dtype = "float32" },
            Data = new DataSection { Train = [new DataSource { Path = folder.At("rows.jsonl") }], Eval = [new DataSource { Path = folder.At("rows.jsonl") }], Packing = false },
            Training = new TrainingSection { MaxSteps = 6, WarmupSteps = 1, LearningRate = 5e-3, MicroBatchSize = 2 },
            Checkpoint = new CheckpointSection { EverySteps = 1, Keep = 10 },
        };
    }
}
