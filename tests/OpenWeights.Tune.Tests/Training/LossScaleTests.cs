using NUnit.Framework;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Init;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Families;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Training;

/// <summary>Training in float16: the loss is scaled, and what overflows is left out.</summary>
public sealed class LossScaleTests
{
    [Test]
    [Category(TestDevice.CpuAlone)]
    public void The_scale_halves_where_gradients_overflow_and_grows_after_a_long_time_without()
    {
        var scaler = new LossScaler();
        scaler.Overflowed();
        Assert.That((scaler.Scale, scaler.Skipped), Is.EqualTo((32_768.0, 1L)));
        for (var i = 0; i < 1999; i++)
        {
            scaler.Succeeded();
        }

        Assert.That(scaler.Scale, Is.EqualTo(32_768));
        scaler.Succeeded();
        Assert.That(scaler.Scale, Is.EqualTo(65_536));
        while (scaler.CanFall)
        {
            scaler.Overflowed();
        }

        Assert.That(scaler.Scale, Is.EqualTo(1));
    }

    [TestCase(true)]
    [TestCase(false)]
    public void Float16_learns_what_float32_does(bool adapter)
    {
        using var folder = new TemporaryFolder();
        var exact = Train(folder, "float32", adapter);
        var half = Train(folder, "float16", adapter);
        Assert.That(half.Steps.Where(static s => !s.Skipped).Select(static s => s.LossScale), Is.All.LessThanOrEqualTo(65_536).And.All.GreaterThanOrEqualTo(1));
        Assert.That(exact.Steps.Select(static s => s.LossScale), Is.All.Null);
        if (half.Steps.TrueForAll(static s => !s.Skipped))
        {
            Assert.That(half.Steps.Select(static s => s.Loss), Is.EqualTo(exact.Steps.Select(static s => s.Loss)).Within(0.02));
            Assert.That(half.Steps.Select(static s => s.GradNorm), Is.EqualTo(exact.Steps.Select(static s => s.GradNorm)).Within(5).Percent);
        }
    }

    [Test]
    public void A_step_that_overflows_is_left_out_counted_and_remembered_in_the_state()
    {
        using var folder = new TemporaryFolder();
        _ = TinyModel.Write(folder);
        _ = TinyModel.WriteRows(folder, 12);
        var config = Config(folder, "float16", adapter: false);
        var draft = RunDraft.Read(config, new SilentListener());
        using var trained = TrainedModel.Load(draft.Config, folder.At("model"), draft.Device, static _ => { });
        using var trainer = new Trainer(trained, new SupervisedObjective(config.Objective), draft.Rows, draft.Config, totalSteps: 1000);
        trainer.State = trainer.State with { LossScale = Math.Pow(2, 40), LossScaleGoodSteps = 7 };
        var before = trained.Parameters[0].Parameter.detach().clone();
        var step = trainer.Step();
        Assert.That((step.Skipped, step.Overflowed, step.LossScale), Is.EqualTo((true, true, (double?)Math.Pow(2, 40))));
        Assert.That(double.IsFinite(step.Loss));
        Assert.That(trained.Parameters[0].Parameter.eq(before).all().item<bool>(), "nothing is changed");
        Assert.That((trainer.State.LossScale, trainer.State.LossScaleSkipped, trainer.State.LossScaleGoodSteps, trainer.State.Updates), Is.EqualTo(((double?)Math.Pow(2, 39), 1L, 0, 0L)));
        StepMetrics next;
        do
        {
            next = trainer.Step();
        }
        while (next.Skipped);
        Assert.That(double.IsFinite(next.GradNorm));
        Assert.That(trained.Parameters[0].Parameter.eq(before).all().item<bool>(), Is.False);
    }

    [Test]
    [Category(TestDevice.CpuAlone)]
    public void Families_whose_activations_exceed_float16_are_computed_in_float32_where_there_is_no_bfloat16()
    {
        var all = FamilyRegistry.All.Select(static f => f.ModelType).ToList();
        Assert.That(
            FamilyRegistry.All.Where(static f => f.Facts.OverflowsInFloat16).Select(static f => f.ModelType),
            Is.EquivalentTo(all.Where(static t => t.Contains("gemma", StringComparison.Ordinal)).Concat(["glm4", "gpt_oss", "deepseek_v2", "deepseek_v3"])));
        Assert.That(ModelLoader.ComputeDType(bfloat16, CPU, "gemma"), Is.EqualTo(bfloat16), "a CPU has it");
        Assert.That(ModelLoader.ComputeDType(float32, CPU, "llama"), Is.EqualTo(float32));
        Assert.That(Devices.HasBFloat16(CPU));
    }

    // What a family computes that float16 has no code for, or that grows out of it, shows in a step.
    private static IEnumerable<string> Float16Families() => FamilyRegistry.All.Where(static f => !f.Facts.OverflowsInFloat16).Select(static f => f.ModelType);

    [TestCaseSource(nameof(Float16Families))]
    public void Every_other_family_takes_its_steps_in_float16(string family)
    {
        using var folder = new TemporaryFolder();
        var shape = new ModelShape { HiddenSize = 32, IntermediateSize = 48, Layers = 2, Heads = 4, KeyValueHeads = 2, VocabularySize = TinyModel.Vocabulary, MaxPositions = 128 };
        _ = NewModel.Write(family, shape, seed: 7, bfloat16, folder.At("model"), addTokenizer: null);
        _ = TinyModel.WriteRows(folder, 12);
        var (exact, half) = (Train(folder, "float32", adapter: true, steps: 2), Train(folder, "float16", adapter: true));
        Assert.That(half.Steps.Select(static s => double.IsFinite(s.Loss)), Is.All.True, "nothing overflows forward");
        Assert.That(half.Steps[^1].Skipped, Is.False, "and backward nothing at a scale that is soon found");

        Assert.That(half.Steps[0].Loss, Is.EqualTo(exact.Steps[0].Loss).Within(0.05));
    }

    // Trained models keep some channels of the residual stream at thousands (Sun et al., Massive Activations in Large Language Models, 2024: 2,500 in
    // Llama 2, 7,000 in Mixtral), which the final norm's weight takes out of the logits again.
    [TestCaseSource(nameof(Float16Families))]
    public void Every_other_family_computes_activations_of_thousands_in_float16(string family)
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        var shape = new ModelShape { HiddenSize = 32, IntermediateSize = 48, Layers = 2, Heads = 4, KeyValueHeads = 2, VocabularySize = TinyModel.Vocabulary, MaxPositions = 128, TiedEmbeddings = false };
        _ = NewModel.Write(family, shape, seed: 7, bfloat16, folder.At("model"), addTokenizer: null);
        MakeMassive(folder.At("model"));
        var (exact, half) = (Loss(folder.At("model"), float32), Loss(folder.At("model"), float16));
        Assert.That(half.Loss, Is.EqualTo(exact.Loss).Within(0.05));
        Assert.That(half.GradNorm, Is.EqualTo(exact.GradNorm).Within(25).Percent);
    }

    private static void MakeMassive(string path)
    {
        using var scope = NewDisposeScope();
        DecoderConfig config;
        using (var loaded = ModelLoader.Load(path, float32, CPU))
        {
            config = loaded.Model.Config;
        }

        var file = Path.Combine(path, "model.safetensors");
        List<TensorToWrite> tensors;
        using (var old = SafetensorsFile.Open(file))
        {
            Assert.That(old.Tensors.Any(t => IsEmbedding(config, t.Name)));
            tensors = [.. old.Tensors.Select(t => TensorFiles.ToWrite(t.Name, Massive(config, t.Name, TensorFiles.Read(old, t.Name).to(float32)), bfloat16))];
        }

        SafetensorsWriter.Write(file, tensors);
    }

    private static bool IsEmbedding(DecoderConfig config, string name) => name.EndsWith($".{config.Names.Embedding}.weight", StringComparison.Ordinal);

    private static Tensor Massive(DecoderConfig config, string name, Tensor values)
    {
        void Set(int dimension, long index, double value)
        {
            using Scalar written = value;
            _ = values.narrow(dimension, index, 1).fill_(written);
        }

        if (IsEmbedding(config, name))
        {
            Set(1, 3, 4000 / config.EmbeddingMultiplier);
            Set(1, 17, -3000 / config.EmbeddingMultiplier);
        }
        else if (name.EndsWith($".{config.Names.FinalNorm}.weight", StringComparison.Ordinal) && !name.Contains(".layers.", StringComparison.Ordinal))
        {
            var zero = config.Norm is RmsNormSettings { AddsOne: true } or LayerNormSettings { AddsOne: true } ? -1 : 0;
            using Scalar usual = 1000 + zero;
            _ = values.fill_(usual);
            Set(0, 3, zero);
            Set(0, 17, zero);
        }

        return values;
    }

    private static (double Loss, double GradNorm) Loss(string path, ScalarType dtype)
    {
        using var scope = NewDisposeScope();
        using var loaded = ModelLoader.Load(path, dtype, TestDevice.Current);
        var random = new Random(3);
        var ids = Enumerable.Range(0, 24).Select(_ => random.Next(TinyModel.Vocabulary)).ToArray();
        loaded.Model.parameters().ToList().ForEach(static p => p.requires_grad = true);
        var loss = new SupervisedObjective().LossSum(loaded.Model, TokenBatch.Of([new TokenRow(ids, ids, "row")], padId: 0, TestDevice.Current));
        loss.backward();
        var norm = Math.Sqrt(loaded.Model.parameters().Where(static p => p.grad is not null).Sum(static p => Math.Pow(p.grad!.to(float64).norm().ToDouble(), 2)));
        return (loss.to(float64).ToDouble() / (ids.Length - 1), norm);
    }

    private static SilentListener Train(TemporaryFolder folder, string dtype, bool adapter, int steps = 12)
    {
        if (!Directory.Exists(folder.At("model")))
        {
            _ = TinyModel.Write(folder);
            _ = TinyModel.WriteRows(folder, 12);
        }

        var listener = new SilentListener();
        using var run = TrainingRun.Prepare(Config(folder, dtype, adapter, steps), listener);
        Assert.That(run.Run(overwrite: true, "test", CancellationToken.None), Is.Not.Null);
        return listener;
    }

    private static RunConfig Config(TemporaryFolder folder, string dtype, bool adapter, int steps = 12) => new()
    {
        OutputDir = folder.At("run"),
        Model = new ModelSection { Path = folder.At("model"), Device = TestDevice.Name, Dtype = dtype },
        Adapter = adapter ? new AdapterSection { Rank = 4 } : null,
        Data = new DataSection { Train = [new DataSource { Path = folder.At("rows.jsonl") }], Packing = false },
        Training = new TrainingSection { MaxSteps = steps, MicroBatchSize = 2, GradientAccumulationSteps = 2, WarmupSteps = 1, LearningRate = 5e-3 },
    };
}
