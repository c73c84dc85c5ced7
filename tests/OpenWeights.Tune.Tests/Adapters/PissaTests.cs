using NUnit.Framework;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Adapters;

/// <summary>PiSSA against PEFT: the start, a few steps of training, PEFT's folder and its conversion to plain LoRA.</summary>
public sealed class PissaTests
{
    private static readonly LoraConfig s_config = new() { Rank = 8, Alpha = 16, Init = LoraInit.Pissa };

    [Test]
    public void It_starts_from_the_largest_singular_values_and_changes_nothing()
    {
        using var golden = new Golden("lora_pissa");
        using var loaded = Base(golden);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var plain = Logits(golden, loaded);
        using var adapter = PeftAdapter.Create(loaded.Model, s_config, seed: 1);
        Assert.That(Golden.LargestDifference(Logits(golden, loaded), plain), Is.LessThan(3e-5));
        Assert.That(Golden.LargestDifference(Logits(golden, loaded), golden.Tensor("init.logits")), Is.LessThan(3e-5));
        using var residual = SafetensorsFile.Open(Path.Combine(golden.Folder, "residual_base.safetensors"));
        var compared = 0;
        foreach (var layer in adapter.Layers)
        {
            using Scalar scale = layer.Scale;
            var start = layer.B.mm(layer.A).mul(scale);
            if (golden.Tensors.TryGetTensor($"init.delta.{layer.Module}", out _))
            {
                Assert.That(Golden.LargestDifference(start, golden.Tensor($"init.delta.{layer.Module}")), Is.LessThan(3e-5), layer.Module);
            }

            if (residual.TryGetTensor($"{layer.Module}.weight", out _))
            {
                compared++;
                Assert.That(Golden.LargestDifference(layer.Target.Weight.sub(start), TensorFiles.Read(residual, $"{layer.Module}.weight")), Is.LessThan(3e-5), layer.Module);
            }
        }

        Assert.That(compared, Is.GreaterThanOrEqualTo(7), "the layers of a block at least");
    }

    [Test]
    public void Trained_as_PEFT_trains_it_gives_PEFTs_losses_and_logits_and_is_written_as_PEFT_converts_it()
    {
        using var golden = new Golden("lora_pissa");
        using var loaded = Base(golden);
        using var adapter = PeftAdapter.Create(loaded.Model, s_config, seed: 1);
        using var work = new TemporaryFolder();
        Assert.That(Train(golden, loaded, adapter), Is.EqualTo(golden.Json["sgd"]!["losses"]!.AsArray().Select(static l => l!.GetValue<double>())).Within(2e-5));
        using (no_grad())
        {
            using var scope = NewDisposeScope();
            Assert.That(Golden.LargestDifference(Logits(golden, loaded), golden.Tensor("trained.logits")), Is.LessThan(5e-5));
            PeftFolder.Save(adapter, work.At("portable"), "../llama");
        }

        adapter.Dispose();
        using var nothing = no_grad();
        using var both = NewDisposeScope();
        using var portable = PeftFolder.Load(loaded.Model, work.At("portable"));
        var plain = (LoraConfig)portable.Config;
        Assert.That((plain.Rank, plain.Alpha, plain.Init), Is.EqualTo((16, 32.0, LoraInit.Kaiming)));
        Assert.That(Golden.LargestDifference(Logits(golden, loaded), golden.Tensor("trained.logits")), Is.LessThan(5e-5));
        using var converted = PeftFolder.Load(loaded.Model, Path.Combine(golden.Folder, "converted_lora"));
        foreach (var (ours, theirs) in portable.Layers.Zip(converted.Layers))
        {
            Assert.That(Golden.LargestDifference(ours.Delta(), theirs.Delta()), Is.LessThan(1e-5), ours.Module);
        }
    }

    [Test]
    public void PEFTs_folder_is_read_over_the_plain_base()
    {
        using var golden = new Golden("lora_pissa");
        using var loaded = Base(golden);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        using var adapter = PeftFolder.Load(loaded.Model, Path.Combine(golden.Folder, "trained_pissa"));

        // PEFT's decomposition and the one here are each off by about 5e-6 in float32, and no more than one of them is in PEFT's logits.
        Assert.That(Golden.LargestDifference(Logits(golden, loaded), golden.Tensor("trained.logits")), Is.LessThan(3e-4));
    }

    [Test]
    public void With_rank_stabilised_scales_the_written_adapter_is_the_same_too_and_can_be_gone_on_from()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, TestDevice.Current);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var config = s_config with { Rank = 4, Alpha = 6, UseRslora = true, RankPattern = new Dictionary<string, int> { ["q_proj"] = 2 }, AlphaPattern = new Dictionary<string, double> { ["v_proj"] = 3 } };
        using var adapter = PeftAdapter.Create(loaded.Model, config, seed: 1);
        foreach (var layer in adapter.Layers)
        {
            _ = layer.B.copy_(layer.B.add(layer.B.abs(), Scalars.One));
        }

        PeftFolder.Save(adapter, folder.At("adapter"), null);
        using var again = PeftAdapter.Create(loaded.Model, config, seed: 2);
        PeftFolder.Restore(again, folder.At("adapter"));
        using var portable = PeftFolder.Load(loaded.Model, folder.At("adapter"));
        foreach (var ((ours, restored), read) in adapter.Layers.Zip(again.Layers).Zip(portable.Layers))
        {
            Assert.That(Golden.LargestDifference(read.Delta(), ours.Delta()), Is.LessThan(1e-6), ours.Module);
            Assert.That(restored.B.eq(ours.B).all().item<bool>() && restored.Delta().eq(ours.Delta()).all().item<bool>(), ours.Module);
        }
    }

    private static LoadedModel Base(Golden golden) => ModelLoader.Load(Path.Combine(golden.Folder, golden.Json["base"]!.ToString()), float32, TestDevice.Current);

    private static Tensor Logits(Golden golden, LoadedModel loaded) => loaded.Model.Logits(loaded.Model.call(ModelInput.Rows(Golden.Ids(golden.Json["batch"]!["input_ids"]!))));

    private static List<double> Train(Golden golden, LoadedModel loaded, PeftAdapter adapter)
    {
        var losses = new List<double>();
        using Scalar step = -golden.Json["sgd"]!["lr"]!.GetValue<double>();
        for (var i = 0; i < golden.Json["sgd"]!["steps"]!.GetValue<int>(); i++)
        {
            using var scope = NewDisposeScope();
            var labels = Golden.Ids(golden.Json["batch"]!["labels"]!);
            var logits = Logits(golden, loaded);
            var loss = nn.functional.cross_entropy(
                logits.narrow(1, 0, labels.size(1) - 1).reshape(-1, logits.size(2)), labels.narrow(1, 1, labels.size(1) - 1).reshape(-1));
            losses.Add(loss.ToDouble());
            loss.backward();
            using var nothing = no_grad();
            foreach (var (_, parameter) in adapter.Parameters)
            {
                _ = parameter.add_(parameter.grad!, step);
                parameter.grad = null;
            }
        }

        return losses;
    }
}
