using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Adapters.Kinds;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Training;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Training;

/// <summary>Runs of every kind of adapter on a small model: they learn, resume, are read, merged, and refused where they are damaged.</summary>
public sealed class KindRunTests
{
    // Every kind, with settings that fit a model of 32 features, 48 in the feed-forward and 16 keys.
    private static readonly Dictionary<string, AdapterConfig> s_kinds = new()
    {
        ["ia3"] = new Ia3Config(),
        ["ln_tuning"] = new LnTuningConfig(),
        ["loha"] = new LohaConfig { Rank = 4, Alpha = 8, RankDropout = 0.1 },
        ["lokr"] = new LokrConfig { Rank = 4, Alpha = 8, ModuleDropout = 0.1 },
        ["vera"] = new VeraConfig { Rank = 8, VeraDropout = 0.1 },
        ["oft"] = new OftConfig { OftBlockSize = 8, ModuleDropout = 0.3 },
        ["oft, constrained"] = new OftConfig { Rank = 4, OftBlockSize = 0, Coft = true, BlockShare = true, UseCayleyNeumann = false, Eps = 0.1 },
        ["oft, embedding"] = new OftConfig { OftBlockSize = 8, Targets = TargetModules.Of(["embed_tokens", "v_proj"]) },
        ["boft"] = new BoftConfig { BoftBlockSize = 4, BoftNButterflyFactor = 2, BoftDropout = 0.3 },
        ["miss"] = new MissConfig { Rank = 5, MissDropout = 0.1 },
        ["miss, bat"] = new MissConfig { Rank = 8, InitWeights = "bat" },
        ["miss, mini"] = new MissConfig { Rank = 8, MiniR = 4, InitWeights = "mini" },
        ["prompt_tuning"] = new PromptTuningConfig { NumVirtualTokens = 4, PromptTuningInit = "SAMPLE_VOCAB" },
        ["p_tuning"] = new PTuningConfig { NumVirtualTokens = 4, EncoderHiddenSize = 16 },
        ["p_tuning, LSTM"] = new PTuningConfig { NumVirtualTokens = 4, EncoderHiddenSize = 8, EncoderReparameterizationType = "LSTM", EncoderDropout = 0.1 },
        ["prefix_tuning"] = new PrefixTuningConfig { NumVirtualTokens = 4 },
        ["prefix_tuning, projected"] = new PrefixTuningConfig { NumVirtualTokens = 4, PrefixProjection = true },
        ["adalora"] = new AdaloraConfig { InitR = 4, TargetR = 2, Tinit = 1, Tfinal = 2, TotalStep = 7, LoraDropout = 0.1 },
        ["trainable_tokens"] = new TrainableTokensConfig { TokenIndices = [.. Enumerable.Range(0, TinyModel.Vocabulary)] },
        ["delora"] = new DeloraConfig { Rank = 4, ModuleDropout = 0.1 },
        ["randlora"] = new RandloraConfig { Rank = 8, RandloraAlpha = 32, Sparse = true },
        ["c3a"] = new C3aConfig { BlockSize = 16 },
        ["shira"] = new ShiraConfig { Rank = 2 },
        ["hra"] = new HraConfig { Rank = 4 },
        ["hra, orthogonal"] = new HraConfig { Rank = 3, ApplyGramSchmidt = true },
        ["hira"] = new HiraConfig { Rank = 4, HiraDropout = 0.1 },
        ["hira, embedding"] = new HiraConfig { Rank = 4, InitWeights = "false", Targets = TargetModules.Of(["embed_tokens", "q_proj"]) },
        ["gralora"] = new GraloraConfig { Rank = 4, HybridR = 2, Alpha = 8, GraloraDropout = 0.1 },
        ["fourierft"] = new FourierftConfig { NFrequency = 50, Scaling = 20 },
        ["road"] = new RoadConfig { GroupSize = 8, Variant = "road_4" },
        ["vblora"] = new VbloraConfig { VectorLength = 16, NumVectors = 12 },
        ["waveft"] = new WaveftConfig { NFrequency = 50, WaveletFamily = "db2", ProportionalParameters = true },
    };

    private static IEnumerable<string> Names => s_kinds.Keys;

    [Test]
    public void Every_kind_of_the_registry_is_tested_here_and_has_a_type_of_the_configuration()
    {
        Assert.That(s_kinds.Values.Select(static c => c.TypeName).Distinct(), Is.EquivalentTo(AdapterTypes.Others.Keys));
        Assert.That(AdapterKinds.All.Select(static k => k.Settings), Is.EquivalentTo([typeof(LoraConfig), .. AdapterTypes.Others.Values]));
        var page = File.ReadAllText(Path.Combine(SharedFiles.Root, "docs", "adapters.md"));
        foreach (var type in AdapterTypes.Others)
        {
            Assert.That(page, Does.Contain($"`{type.Key}`"), "docs/adapters.md describes the type");
        }
    }

    [TestCaseSource(nameof(Names))]
    [Category(TestDevice.CpuAlone)]
    public void Training_lowers_the_loss_and_what_is_saved_gives_the_same_and_goes_on(string name)
    {
        using var folder = new TemporaryFolder();
        var listener = new SilentListener();
        var config = Config(folder, name, "run", steps: 12);
        Assert.That(Run(config, listener), Is.Not.Null);
        Assert.That(listener.Steps[^1].Loss, Is.LessThan(listener.Steps[0].Loss - 0.002), "the last steps see the rows of the first");
        using var loaded = ModelLoader.Load(folder.At("model"), float32, TestDevice.Current);
        var warnings = new List<string>();
        using var adapter = PeftFolder.Load(loaded.Model, folder.At("run", "adapter"), warnings.Add);
        Assert.That(warnings, Is.Empty);
        Assert.That(adapter.Config.GetType(), Is.EqualTo(s_kinds[name].GetType()));
        Same(loaded, adapter, folder);

        var further = Config(folder, name, "further", steps: 3);
        var next = new SilentListener();
        Assert.That(Run(further with { Adapter = new AdapterSection { Path = folder.At("run", "adapter") } }, next), Is.Not.Null);
        Assert.That(next.Steps[0].Loss, Is.LessThan(listener.Steps[0].Loss), "it goes on from what was learnt");
    }

    private static void Same(LoadedModel loaded, PeftAdapter adapter, TemporaryFolder folder)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var ids = ModelInput.Rows(tensor(Enumerable.Range(3, 12).Select(static i => (long)i * 6).ToArray(), [2, 6]).to(TestDevice.Current));
        var logits = loaded.Model.Logits(loaded.Model.call(ids));
        adapter.Enabled = false;
        Assert.That(Golden.LargestDifference(loaded.Model.Logits(loaded.Model.call(ids)), logits), Is.GreaterThan(1e-4), "it has an effect");
        adapter.Enabled = true;

        if (adapter.Config is not PromptConfig)
        {
            var unties = adapter.Parts.Any(static p => p is EmbeddingPart);
            Assert.That(MergedExport.Write(loaded, adapter, folder.At("merged"), null, long.MaxValue), Is.EqualTo(unties), "embedding and head are tied");
            using var merged = ModelLoader.Load(folder.At("merged"), float32, TestDevice.Current);
            Assert.That(Golden.LargestDifference(merged.Model.Logits(merged.Model.call(ids)), logits), Is.LessThan(5e-5), "merged");
        }
    }

    [TestCaseSource(nameof(Names))]
    [Category(TestDevice.CpuAlone)]
    public void Going_on_gives_the_bytes_of_a_run_that_was_not_stopped(string name)
    {
        using var folder = new TemporaryFolder();
        Assert.That(Run(Config(folder, name, "straight", steps: 8), new SilentListener()), Is.Not.Null);
        using var stop = new CancellationTokenSource();
        var stopped = Config(folder, name, "stopped", steps: 8);
        Assert.That(Run(stopped, new SilentListener { OnStep = s => Stop(s, 5, stop) }, stop: stop.Token), Is.Null);
        Assert.That(Run(stopped, new SilentListener(), resume: true), Is.Not.Null);
        Assert.That(File.ReadAllBytes(folder.At("stopped", "adapter", "adapter_model.safetensors")), Is.EqualTo(File.ReadAllBytes(folder.At("straight", "adapter", "adapter_model.safetensors"))));
    }

    [TestCaseSource(nameof(Names))]
    [Category(TestDevice.CpuAlone)]
    public void Checkpointing_gives_the_same_losses(string name)
    {
        using var folder = new TemporaryFolder();
        var (plain, again) = (new SilentListener(), new SilentListener());
        var config = Config(folder, name, "plain", steps: 4);
        Assert.That(Run(config, plain), Is.Not.Null);
        Assert.That(Run(config with { OutputDir = folder.At("again"), Training = config.Training with { ActivationCheckpointing = "block" } }, again), Is.Not.Null);
        Assert.That(again.Steps.Select(static s => s.Loss), Is.EqualTo(plain.Steps.Select(static s => s.Loss)).Within(1e-5));
    }

    [TestCaseSource(nameof(Names))]
    [Category(TestDevice.CpuAlone)]
    public void Packed_rows_give_the_loss_of_rows_apart(string name)
    {
        using var folder = new TemporaryFolder();
        var (apart, packed) = (new SilentListener(), new SilentListener());
        var config = Config(folder, name, "apart", steps: 1);
        Assert.That(Run(config, apart), Is.Not.Null);
        Assert.That(Run(config with { OutputDir = folder.At("packed"), Data = config.Data with { Packing = true, MaxLength = 128 } }, packed), Is.Not.Null);

        // Dropout differs from row to row.
        if (!SettingInfo.Of(s_kinds[name].GetType()).Any(s => s.Key.EndsWith("dropout", StringComparison.Ordinal) && s.Property.GetValue(s_kinds[name]) is > 0.0))
        {
            Assert.That(packed.Steps[0].Loss, Is.EqualTo(apart.Steps[0].Loss).Within(1e-5));
        }
    }

    [TestCaseSource(nameof(Names))]
    [Category(TestDevice.CpuAlone)]
    public void It_is_trained_over_a_quantised_base(string name)
    {
        using var folder = new TemporaryFolder();
        var listener = new SilentListener();
        var config = Config(folder, name, "run", steps: 12) with { Quantization = new QuantizationSection { Type = "nf4", BlockSize = 32 } };
        Assert.That(Run(config, listener), Is.Not.Null);
        Assert.That(listener.Steps[^1].Loss, Is.LessThan(listener.Steps[0].Loss - 0.002));
    }

    [TestCaseSource(nameof(Names))]
    [Category(TestDevice.CpuAlone)]
    public void The_plan_counts_its_parameters(string name)
    {
        using var folder = new TemporaryFolder();
        TinyModel.Write(folder);
        using var loaded = ModelLoader.Load(folder.At("model"), float32, TestDevice.Current);
        long Count(PeftAdapter adapter) => adapter.Parameters.Sum(static p => p.Parameter.numel());
        long trained, planned;
        using (var adapter = PeftAdapter.Create(loaded.Model, s_kinds[name], seed: 1))
        {
            trained = Count(adapter);
        }

        using (var meta = PeftAdapter.CreateMeta(loaded.Model, s_kinds[name]))
        {
            planned = Count(meta);
        }

        Assert.That((planned, trained > 0), Is.EqualTo((trained, true)));
    }

    [TestCaseSource(nameof(Names))]
    [Category(TestDevice.CpuAlone)]
    public void A_damaged_adapter_is_told_with_the_tensors_name(string name)
    {
        using var folder = new TemporaryFolder();
        TinyModel.Write(folder);
        using var loaded = ModelLoader.Load(folder.At("model"), float32, TestDevice.Current);
        using (var adapter = PeftAdapter.Create(loaded.Model, s_kinds[name], seed: 1))
        {
            PeftFolder.Save(adapter, folder.At("whole"), "base");
        }

        using var file = SafetensorsFile.Open(folder.At("whole", "adapter_model.safetensors"));
        var settings = AdapterFolder.Open(folder.At("whole")).Config;

        // The base's own weight of an adapted embedding may be missing.
        var first = file.Tensors.First(static t => !t.Name.EndsWith("base_layer.weight", StringComparison.Ordinal));
        string Told(string at, JsonObject json, IEnumerable<TensorToWrite> tensors)
        {
            AdapterFolder.Write(folder.At(at), json, [.. tensors]);
            return Assert.Throws<InvalidDataException>(() => PeftFolder.Load(loaded.Model, folder.At(at)).Dispose())!.Message;
        }

        var others = file.Tensors.Where(t => t.Name != first.Name).Select(t => TensorToWrite.FromSource(file, t.Name)).ToList();
        Assert.That(Told("less", settings, others.Count > 0 ? others : [TensorFilesToWrite("other", ones([1]))]), Does.Contain($"missing: {first.Name}"));
        Assert.That(Told("misshapen", settings, others.Append(TensorFilesToWrite(first.Name, ones([3, 1, 2])))), Does.Contain($"misshapen: {first.Name} is [3, 1, 2]"));
        Assert.That(Told("more", settings, file.Tensors.Select(t => TensorToWrite.FromSource(file, t.Name)).Append(TensorFilesToWrite("base_model.model.nowhere.ia3_l", ones([1])))), Does.Contain("unexpected: base_model.model.nowhere.ia3_l"));
        var unknown = settings.DeepClone().AsObject();
        unknown["r_of_tomorrow"] = 3;
        AdapterFolder.Write(folder.At("unknown"), unknown, [.. file.Tensors.Select(t => TensorToWrite.FromSource(file, t.Name))]);
        var warnings = new List<string>();
        PeftFolder.Load(loaded.Model, folder.At("unknown"), warnings.Add).Dispose();
        Assert.That(warnings, Has.Some.Contains("r_of_tomorrow: unknown to this version and ignored"));
    }

    [TestCaseSource(nameof(Names))]
    [Category(TestDevice.CpuAlone)]
    public void Its_settings_are_written_and_read_in_YAML_and_as_PEFT(string name)
    {
        using var folder = new TemporaryFolder();
        var text = ConfigWriter.Write(Config(folder, name, "run", steps: 1));
        Assert.That(ConfigWriter.Write(RunConfigFile.Parse(folder.At("run.yaml"), text, []).Config), Is.EqualTo(text));
        using var loaded = ModelLoader.Load(folder.At("model"), float32, TestDevice.Current);
        using var adapter = PeftAdapter.Create(loaded.Model, s_kinds[name], seed: 1);
        PeftFolder.Save(adapter, folder.At("adapter"), "base");
        adapter.Enabled = false;
        using var again = PeftFolder.Load(loaded.Model, folder.At("adapter"));
        foreach (var setting in SettingInfo.Of(s_kinds[name].GetType()).Where(static s => s.Key is not "feedforward_modules"))
        {
            Assert.That(setting.Property.GetValue(again.Config), Is.EqualTo(setting.Property.GetValue(s_kinds[name])), setting.Key);
        }
    }

    [Test]
    public void A_setting_of_another_type_is_told_as_such()
    {
        using var folder = new TemporaryFolder();
        string Told(string adapter) => Assert.Throws<ConfigException>(() => RunConfigFile.Parse(
            folder.At("run.yaml"), $"model: {{ path: x }}\noutput_dir: y\ndata: {{ train: z.jsonl }}\nadapter: {adapter}\n", []))!.Message;
        Assert.That(Told("{ type: loha, lora_alpha: 4 }"), Does.Contain("adapter.lora_alpha").And.Contains("of the adapter types lora, adalora; loha has r, alpha"));
        Assert.That(Told("{ type: lora, boft_block_size: 4 }"), Does.Contain("of the adapter type boft"));
        Assert.That(Told("{ type: loha, bias: all }"), Does.Contain("loha trains no biases"));
        Assert.That(Told("{ type: oft, bias: boft_only }"), Does.Contain("oft has none, all and oft_only"));
    }

    [Test]
    public void Biases_of_the_adapted_layers_are_trained_and_merged()
    {
        using var folder = new TemporaryFolder();
        NewBiased(folder);
        var section = new AdapterSection { Type = "boft", Bias = "boft_only", Own = new BoftConfig { BoftBlockSize = 4 } };
        var config = Config(folder, "boft", "run", steps: 6) with { Adapter = section };
        Assert.That(Run(config, new SilentListener()), Is.Not.Null);
        using var loaded = ModelLoader.Load(folder.At("model"), float32, TestDevice.Current);
        using var adapter = PeftFolder.Load(loaded.Model, folder.At("run", "adapter"));
        Assert.That(adapter.Config.Bias, Is.EqualTo(BiasTraining.LoraOnly));
        Assert.That(adapter.ChangedTensors, Has.Some.EndsWith("q_proj.bias"));
    }

    private static void NewBiased(TemporaryFolder folder)
    {
        var shape = new ModelShape { HiddenSize = 32, IntermediateSize = 48, Layers = 2, Heads = 4, KeyValueHeads = 2, VocabularySize = TinyModel.Vocabulary, MaxPositions = 128 };
        OpenWeights.Tune.Init.NewModel.Write("qwen2", shape, seed: 7, ScalarType.Float32, folder.At("model"), addTokenizer: null);
        _ = TinyModel.WriteRows(folder, 13);
    }

    private static TensorToWrite TensorFilesToWrite(string name, Tensor values) => OpenWeights.Tune.Torch.TensorFiles.ToWrite(name, values);

    private static RunConfig Config(TemporaryFolder folder, string name, string output, int steps)
    {
        if (!Directory.Exists(folder.At("model")))
        {
            TinyModel.Write(folder);
            TinyModel.WriteRows(folder, 13);
        }

        var kind = s_kinds[name];
        var section = new AdapterSection { Type = kind.TypeName, Own = kind };
        section = kind.Targets.Names is { Count: > 0 } targets ? section with { TargetModules = new TextOrList([.. targets], IsList: true) } : section;
        return new RunConfig
        {
            OutputDir = folder.At(output),
            Model = new ModelSection { Path = folder.At("model"), Device = TestDevice.Name },
            Adapter = section,
            Data = new DataSection { Train = [new DataSource { Path = folder.At("rows.jsonl") }], Packing = false },
            Training = new TrainingSection { MaxSteps = steps, WarmupSteps = 0, LearningRate = 2e-2, MicroBatchSize = 13 },
        };
    }

    private static string? Run(RunConfig config, SilentListener listener, bool resume = false, CancellationToken stop = default)
    {
        using var run = TrainingRun.Prepare(config, listener, new RunOptions(Resume: resume));
        return run.Run(overwrite: false, "test", stop);
    }

    private static void Stop(StepMetrics step, long at, CancellationTokenSource stop)
    {
        if (step.Step == at)
        {
            stop.Cancel();
        }
    }
}
