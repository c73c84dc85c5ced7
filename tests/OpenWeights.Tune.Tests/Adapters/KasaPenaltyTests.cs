using System.Runtime.InteropServices;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Adapters;

/// <summary>KaSA's penalties of singular values and of matrices that are not orthonormal.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class KasaPenaltyTests
{
    [Test]
    public void The_penalty_is_that_of_the_paper_summed_over_the_layers()
    {
        using var work = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(work), float32, CPU);
        using var adapter = Adapter(loaded, new KasaSettings { Beta = 0.2, Gamma = 0.3, Penalizes = true });
        using var scope = NewDisposeScope();
        var expected = 0.0;
        foreach (var layer in adapter.Layers)
        {
            var (a, b, diagonal) = (Rows(layer.A), Rows(layer.B.t()), Rows(layer.Diagonal!.unsqueeze(0)));
            expected += (0.2 * diagonal[0].Sum(static d => d * d)) + (0.3 * (Departure(a) + Departure(b)));
        }

        Assert.That(adapter.Schedule!.Penalty()!.ToDouble(), Is.EqualTo(expected).Within(1e-3).Percent);
    }

    [Test]
    public void Without_the_setting_there_is_none_as_in_PEFTs_training()
    {
        using var work = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(work), float32, CPU);
        using var adapter = Adapter(loaded, new KasaSettings());
        Assert.That(adapter.Schedule, Is.Null);
    }

    [Test]
    public void Training_with_it_makes_the_singular_values_smaller_and_resumes()
    {
        using var work = new TemporaryFolder();
        TinyModel.Write(work);
        TinyModel.WriteRows(work, 12);
        double Size(string name, bool penalizes)
        {
            using (var run = TrainingRun.Prepare(Config(work, name, penalizes), new SilentListener()))
            {
                Assert.That(run.Run(overwrite: false, "test", CancellationToken.None), Is.Not.Null);
            }

            using var loaded = ModelLoader.Load(work.At("model"), float32, CPU);
            using var adapter = PeftFolder.Load(loaded.Model, work.At(name, "adapter"));
            return adapter.Layers.Sum(static l => l.Diagonal!.square().sum().ToDouble());
        }

        Assert.That(Size("with", penalizes: true), Is.LessThan(0.9 * Size("without", penalizes: false)));
        using var further = TrainingRun.Prepare(Config(work, "with", penalizes: true) with { Training = Config(work, "with", true).Training with { MaxSteps = 10 } }, new SilentListener(), new RunOptions(Resume: true));
        Assert.That(further.Run(overwrite: false, "test", CancellationToken.None), Is.Not.Null);
    }

    private static RunConfig Config(TemporaryFolder work, string name, bool penalizes) => new()
    {
        OutputDir = work.At(name),
        Model = new ModelSection { Path = work.At("model"), Device = "cpu" },
        Adapter = new AdapterSection { Rank = 4, KasaConfig = new KasaSection { Beta = 5, Gamma = 0, Penalize = penalizes } },
        Data = new DataSection { Train = [new DataSource { Path = work.At("rows.jsonl") }], Packing = false },
        Training = new TrainingSection { MaxSteps = 8, WarmupSteps = 0, LearningRate = 2e-2, MicroBatchSize = 4 },
        Checkpoint = new CheckpointSection { EverySteps = 4 },
    };

    private static PeftAdapter Adapter(LoadedModel loaded, KasaSettings kasa)
    {
        var adapter = PeftAdapter.Create(loaded.Model, new LoraConfig { Rank = 3, Kasa = kasa, Targets = TargetModules.Of(["q_proj", "down_proj"]) }, seed: 2);
        using var nothing = no_grad();
        using var random = new Generator(4);
        foreach (var layer in adapter.Layers)
        {
            _ = layer.B.normal_(0, 0.3, random);
        }

        return adapter;
    }

    private static double[][] Rows(Tensor matrix) => [.. Enumerable.Range(0, (int)matrix.size(0)).Select(i => MemoryMarshal.Cast<byte, double>(matrix.detach().select(0, i).to(float64).contiguous().bytes).ToArray())];

    // The Frobenius norm of the rows' products less the identity.
    private static double Departure(double[][] rows) =>
        Math.Sqrt(rows.Index().Sum(r => rows.Index().Sum(c => Math.Pow(r.Item.Zip(c.Item, static (x, y) => x * y).Sum() - (r.Index == c.Index ? 1 : 0), 2))));
}
