using NUnit.Framework;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Tests.Models;
using OpenWeights.Tune.Training;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Export;

/// <summary>What is written of models whose files differ from their modules: names, pieces, types, and the parts that are not the text model's.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class LayoutExportTests
{
    private static IEnumerable<string> Cases => Families2026Tests.Cases;

    [TestCaseSource(nameof(Cases))]
    public void A_merged_model_has_the_bases_tensors_and_only_the_adapted_ones_differ(string name)
    {
        using var folder = new TemporaryFolder();
        using var work = new Work(name);
        MergedExport.Write(work.Loaded, work.Adapter, folder.At("merged"), dtype: null, maxShardBytes: 1 << 16);
        using var written = CheckpointWeights.Open(folder.At("merged"));
        RequireSameTensors(work.Stored, written);
        using var weights = work.Loaded.Folder.OpenWeights();
        var adapted = work.Adapter.ChangedTensors.SelectMany(weights.PiecesOf).Select(static p => p.Stored).ToHashSet();
        Assert.That(adapted, Is.Not.Empty);
        foreach (var tensor in work.Stored.Tensors)
        {
            var same = written.ReadBytes(tensor.Name).AsSpan().SequenceEqual(work.Stored.ReadBytes(tensor.Name));
            Assert.That(same, Is.EqualTo(!adapted.Contains(tensor.Name)), tensor.Name);
        }
    }

    [TestCaseSource(nameof(Cases))]
    public void A_merged_model_has_the_logits_of_base_and_adapter(string name)
    {
        using var folder = new TemporaryFolder();
        using var work = new Work(name);
        MergedExport.Write(work.Loaded, work.Adapter, folder.At("merged"), float32, maxShardBytes: 1 << 30);
        var difference = MergedExport.Verify(work.Loaded, folder.At("merged"));
        Assert.That(difference.Difference, Is.LessThan(1e-4 * difference.Largest));
    }

    [TestCaseSource(nameof(Cases))]
    public void A_trained_model_has_the_bases_tensors_and_only_trained_ones_differ(string name)
    {
        using var folder = new TemporaryFolder();
        using var golden = new Golden(name, Families2026Tests.Set);
        using var stored = CheckpointWeights.Open(golden.Folder);
        using var training = new FullTraining(ModelLoader.Load(golden.Folder, null, CPU), decayNormsAndBiases: false);
        Change(training);
        training.Save(folder.At("model"));
        using var written = CheckpointWeights.Open(folder.At("model"));
        RequireSameTensors(stored, written);
        using var weights = ModelFolder.Open(golden.Folder).OpenWeights();
        var trained = training.Parameters.SelectMany(p => weights.PiecesOf(p.Name)).Select(static p => p.Stored).ToHashSet();
        foreach (var tensor in stored.Tensors)
        {
            var same = written.ReadBytes(tensor.Name).AsSpan().SequenceEqual(stored.ReadBytes(tensor.Name));
            Assert.That(same, Is.EqualTo(!trained.Contains(tensor.Name)), tensor.Name);
        }
    }

    [TestCaseSource(nameof(Cases))]
    public void A_trained_models_checkpoint_gives_its_weights_back(string name)
    {
        using var folder = new TemporaryFolder();
        using var golden = new Golden(name, Families2026Tests.Set);
        using var training = new FullTraining(ModelLoader.Load(golden.Folder, float32, CPU), decayNormsAndBiases: false);
        Change(training);
        training.Save(folder.At("model"));
        using var again = new FullTraining(ModelLoader.Load(golden.Folder, float32, CPU), decayNormsAndBiases: false);
        again.Restore(folder.At("model"));
        foreach (var (expected, actual) in training.Parameters.Zip(again.Parameters))
        {
            Assert.That(actual.Parameter.eq(expected.Parameter).all().item<bool>(), expected.Name);
        }

        using var loaded = ModelLoader.Load(folder.At("model"), float32, CPU);
        Assert.That(loaded.Model.named_parameters().Select(static p => p.name), Is.EqualTo(training.Model.named_parameters().Select(static p => p.name)));
    }

    // Text models alone are made anew.
    private static IEnumerable<string> TextModels =>
        Cases.Where(static name => FamilyTable.FindMultimodal(ModelFolder.Open(SharedFiles.Require("goldens", Families2026Tests.Set, name)).Config) is null);

    [TestCaseSource(nameof(TextModels))]
    public void A_new_model_has_the_names_and_pieces_that_transformers_writes(string name)
    {
        var folder = ModelFolder.Open(SharedFiles.Require("goldens", Families2026Tests.Set, name));
        using var stored = CheckpointWeights.Open(folder.FolderPath);
        var layout = FamilyTable.FindText(folder.Config)!.Layout ?? new CheckpointLayout([], []);
        var parts = WeightList.Of(ModelLoader.ReadConfig(folder)).SelectMany(w => layout.PartsOf(w.Key, [.. w.Value.Select(static d => d.Size)]));
        Assert.That(parts.Select(static p => $"{p.Name} [{string.Join(',', p.Shape)}]"), Is.EquivalentTo(stored.Tensors.Select(static t => $"{t.Name} [{string.Join(',', t.Shape)}]")));
    }

    private static void RequireSameTensors(CheckpointWeights expected, CheckpointWeights actual) =>
        Assert.That(actual.Tensors.Select(static t => t.ToString()), Is.EquivalentTo(expected.Tensors.Select(static t => t.ToString())), "names, types and shapes");

    // By more than bfloat16's precision, so that every stored value changes.
    private static void Change(FullTraining training)
    {
        using var nothing = no_grad();
        foreach (var trained in training.Parameters)
        {
            using var scope = NewDisposeScope();
            _ = trained.Parameter.copy_(trained.Parameter.mul(1.25).add(0.25));
        }
    }

    private sealed class Work : IDisposable
    {
        private readonly Golden _golden;

        internal Work(string name)
        {
            _golden = new Golden(name, Families2026Tests.Set);
            Stored = CheckpointWeights.Open(_golden.Folder);
            Loaded = ModelLoader.Load(_golden.Folder, float32, CPU);
            Adapter = PeftFolder.Load(Loaded.Model, Path.Combine(_golden.Folder, "lora"));
        }

        internal CheckpointWeights Stored { get; }

        internal LoadedModel Loaded { get; }

        internal PeftAdapter Adapter { get; }

        public void Dispose()
        {
            Adapter.Dispose();
            Loaded.Dispose();
            Stored.Dispose();
            _golden.Dispose();
        }
    }
}
