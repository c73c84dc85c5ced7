using NUnit.Framework;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Export.Gguf;
using OpenWeights.Tune.Init;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Quantization;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Adapters;

/// <summary>An adapter knows its base by values of its matrices, whatever dtype, layout or packing they come in.</summary>
public sealed class BaseFingerprintTests
{
    private static readonly string[] s_taken = ["resaved", "bfloat16", "float16", "sharded", "nf4", "nf4 written in full", "int8", "outline", "q4_0", "q8_0"];

    [TestCaseSource(nameof(s_taken))]
    public void A_copy_of_the_base_is_taken(string copy)
    {
        using var work = new Work();
        var path = work.Folder.At("copy");
        using var loaded = copy switch
        {
            "resaved" => work.Resaved(path, float32),
            "bfloat16" => work.Resaved(path, bfloat16),
            "float16" => work.Resaved(path, float16),
            "sharded" => work.Sharded(path),
            "nf4" => ModelLoader.Load(work.Base, float32, TestDevice.Current, new QuantizationSettings(QuantizationKind.Nf4, 64, true)),
            "nf4 written in full" => work.InFull(path, QuantizationKind.Nf4),
            "int8" => ModelLoader.Load(work.Base, float32, TestDevice.Current, new QuantizationSettings(QuantizationKind.Int8, 64, false)),
            "outline" => ModelLoader.LoadMeta(work.Base),
            _ => work.Gguf(copy),
        };
        using var adapter = PeftFolder.Load(loaded.Model, work.Adapter);
        Assert.That(adapter.Parts, Is.Not.Empty);
    }

    [Test]
    public void An_adapter_of_a_base_that_is_held_in_NF4_is_taken_over_the_base_itself_and_not_over_another()
    {
        using var work = new Work(quantized: true);
        using var same = ModelLoader.Load(work.Base, float32, TestDevice.Current);
        PeftFolder.Load(same.Model, work.Adapter).Dispose();
        using var other = ModelLoader.Load(work.OtherSeed(), float32, TestDevice.Current);
        Assert.That(() => PeftFolder.Load(other.Model, work.Adapter), Throws.InstanceOf<InvalidDataException>());
    }

    [TestCase("another seed")]
    [TestCase("100 steps of full tuning")]
    [TestCase("flipped signs")]
    public void Another_base_is_refused_unless_it_is_asked_for(string what)
    {
        using var work = new Work();
        var path = what switch
        {
            "another seed" => work.OtherSeed(),
            "flipped signs" => work.Flipped(),
            _ => work.Tuned(),
        };
        foreach (var meta in new[] { false, true })
        {
            using var loaded = meta ? ModelLoader.LoadMeta(path) : ModelLoader.Load(path, float32, TestDevice.Current);
            Assert.That(() => PeftFolder.Load(loaded.Model, work.Adapter), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("a different base model").And.Message.Contains("--any-base"));
            using var adapter = PeftFolder.Load(loaded.Model, work.Adapter, anyBase: true);
            Assert.That(adapter.Fingerprint, Is.Null, "what it becomes here has another base");
        }
    }

    [Test]
    public void An_adapter_without_a_fingerprint_is_taken_over_any_base_and_gets_none_until_it_is_trained()
    {
        using var work = new Work();
        using var other = ModelLoader.Load(work.OtherSeed(), float32, TestDevice.Current);
        using (var file = AdapterFolder.Open(work.Adapter).OpenWeights())
        {
            AdapterFolder.Write(work.Folder.At("plain"), AdapterFolder.Open(work.Adapter).Config, [.. file.Tensors.Select(t => TensorToWrite.FromSource(file, t.Name))]);
        }

        using var adapter = PeftFolder.Load(other.Model, work.Folder.At("plain"));
        PeftFolder.Save(adapter, work.Folder.At("again"), null);
        Assert.That(Metadata(work.Folder.At("again")), Does.Not.ContainKey(BaseFingerprint.Key));
        using var training = new AdapterTraining(ModelLoader.Load(work.Base, float32, TestDevice.Current), adapter);
        training.Save(work.Folder.At("trained"));
        Assert.That(Metadata(work.Folder.At("trained")), Does.ContainKey(BaseFingerprint.Key));
    }

    [TestCase(float.NaN)]
    [TestCase(float.PositiveInfinity)]
    public void An_adapter_with_a_value_that_is_no_number_is_refused(float value)
    {
        using var work = new Work();
        using var loaded = ModelLoader.Load(work.Base, float32, TestDevice.Current);
        string name;
        using (var adapter = PeftFolder.Load(loaded.Model, work.Adapter))
        using (var nothing = no_grad())
        {
            name = adapter.Parameters[0].Name;
            _ = adapter.Parameters[0].Parameter.view(-1).narrow(0, 0, 1).fill_(value);
            PeftFolder.Save(adapter, work.Folder.At("broken"), null);
        }

        Assert.That(() => PeftFolder.Load(loaded.Model, work.Folder.At("broken")), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("NaN or infinity").And.Message.Contains(name));
    }

    [Test]
    public void An_adapter_that_changes_nothing_is_named()
    {
        using var work = new Work();
        using var loaded = ModelLoader.Load(work.Base, float32, TestDevice.Current);
        var told = new List<string>();
        PeftFolder.Load(loaded.Model, work.Adapter, told.Add).Dispose();
        Assert.That(told, Is.Empty);
        using (var fresh = PeftAdapter.Create(loaded.Model, new LoraConfig { Rank = 2 }, 1))
        {
            PeftFolder.Save(fresh, work.Folder.At("fresh"), null);
        }

        PeftFolder.Load(loaded.Model, work.Folder.At("fresh"), told.Add).Dispose();
        Assert.That(told, Has.One.Contains("has no effect"));
        Assert.That(AdapterEffect.IsNone(AdapterFolder.Open(work.Folder.At("fresh"))));
        var config = AdapterFolder.Open(work.Adapter).Config;
        config["lora_alpha"] = 0;
        using (var file = AdapterFolder.Open(work.Adapter).OpenWeights())
        {
            AdapterFolder.Write(work.Folder.At("scaled"), config, [.. file.Tensors.Select(t => TensorToWrite.FromSource(file, t.Name))]);
        }

        Assert.That(AdapterEffect.IsNone(AdapterFolder.Open(work.Folder.At("scaled"))), "a scale of 0");
        Assert.That(AdapterEffect.IsNone(AdapterFolder.Open(work.Adapter)), Is.False);
    }

    private static IReadOnlyDictionary<string, string> Metadata(string path)
    {
        using var file = AdapterFolder.Open(path).OpenWeights();
        return file.Metadata!;
    }

    private sealed class Work : IDisposable
    {
        private static readonly ModelShape s_shape = new() { HiddenSize = 64, IntermediateSize = 128, Layers = 2, Heads = 4, KeyValueHeads = 2, VocabularySize = TinyModel.Vocabulary, MaxPositions = 128 };

        internal Work(bool quantized = false)
        {
            Base = New("base", 7);
            using var loaded = ModelLoader.Load(Base, float32, TestDevice.Current, quantized ? new QuantizationSettings(QuantizationKind.Nf4, 64, false) : null);
            using var adapter = PeftAdapter.Create(loaded.Model, new LoraConfig { Rank = 2 }, 1);
            using var nothing = no_grad();
            foreach (var layer in adapter.Layers)
            {
                using Scalar half = 0.5;
                _ = layer.B.fill_(half);
            }

            PeftFolder.Save(adapter, Adapter, null);
        }

        internal TemporaryFolder Folder { get; } = new();

        internal string Base { get; }

        internal string Adapter => Folder.At("adapter");

        internal string OtherSeed() => New("other", 8);

        internal string Flipped()
        {
            using var weights = CheckpointWeights.Open(Base);
            using var scope = NewDisposeScope();
            return Write("flipped", [.. weights.Tensors.Select(t => TensorFiles.ToWrite(t.Name, t.Shape.Count == 2 ? TensorFiles.Read(weights, t.Name).neg() : TensorFiles.Read(weights, t.Name)))]);
        }

        internal string Tuned()
        {
            TinyModel.WriteRows(Folder, 40);
            var config = new RunConfig
            {
                OutputDir = Folder.At("run"),
                Model = new ModelSection { Path = Base, Device = "cpu" },
                Data = new DataSection { Train = [new DataSource { Path = Folder.At("rows.jsonl") }], Packing = false },
                Training = new TrainingSection { MaxSteps = 100, LearningRate = 1e-4, MicroBatchSize = 2 },
            };
            using var run = TrainingRun.Prepare(config, new SilentListener());
            return run.Run(overwrite: false, "test", CancellationToken.None)!;
        }

        internal LoadedModel InFull(string path, QuantizationKind kind)
        {
            using var none = new CombinedAdapter([]);
            using var loaded = ModelLoader.Load(Base, float32, TestDevice.Current, new QuantizationSettings(kind, 64, true));
            _ = MergedExport.Write(loaded, none, path, null, 1 << 30);
            return ModelLoader.Load(path, float32, TestDevice.Current);
        }

        internal LoadedModel Resaved(string path, ScalarType dtype)
        {
            using var none = new CombinedAdapter([]);
            using var loaded = ModelLoader.Load(Base, float32, TestDevice.Current);
            _ = MergedExport.Write(loaded, none, path, dtype, 1 << 30);
            return ModelLoader.Load(path, float32, TestDevice.Current);
        }

        internal LoadedModel Sharded(string path)
        {
            using var none = new CombinedAdapter([]);
            using var loaded = ModelLoader.Load(Base, float32, TestDevice.Current);
            _ = MergedExport.Write(loaded, none, path, null, 50_000);
            Assert.That(Directory.GetFiles(path, "*.safetensors"), Has.Length.GreaterThan(1));
            return ModelLoader.Load(path, float32, TestDevice.Current);
        }

        internal LoadedModel Gguf(string type)
        {
            var file = Folder.At($"{type}.gguf");
            _ = GgufExport.Write(ModelFolder.Open(Base), null, file, GgufPreset.Of(type));
            return ModelLoader.Load(OpenWeights.Formats.Gguf.GgufFolder.Unpack(file), float32, TestDevice.Current);
        }

        public void Dispose() => Folder.Dispose();

        private string New(string name, long seed)
        {
            NewModel.Write("llama", s_shape, seed, float32, Folder.At(name), addTokenizer: null);
            return Folder.At(name);
        }

        private string Write(string name, IReadOnlyList<TensorToWrite> tensors)
        {
            Folder.Folder(name);
            File.Copy(Path.Combine(Base, "config.json"), Folder.At(name, "config.json"));
            SafetensorsWriter.Write(Folder.At(name, "model.safetensors"), tensors);
            return Folder.At(name);
        }
    }
}
