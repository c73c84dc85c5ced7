using System.Text.Json.Nodes;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Training;

/// <summary>The run of a golden trajectory in our settings.</summary>
internal static class OptimizerGolden
{
    internal static RunConfig Config(Golden golden, TemporaryFolder folder)
    {
        var lora = golden.Json["mode"]!.ToString() == "lora";
        return new RunConfig
        {
            OutputDir = folder.At("run"),
            Model = new ModelSection { Path = Path.Combine(golden.Folder, golden.Json["base"]!.ToString()), Dtype = "float32", Device = TestDevice.Name },
            Adapter = lora ? LoraPlus(golden, new AdapterSection { Path = InitialAdapter(golden, folder) }) : null,
            Data = new DataSection { Train = [new DataSource { Path = Rows(golden, folder) }], Packing = false, Shuffle = false },
            Training = Training(golden),
            Checkpoint = new CheckpointSection { EverySteps = 20 },
        };
    }

    /// <summary>The learning rate of each parameter as a multiple of the first group's, by the reference.</summary>
    internal static SortedDictionary<string, double> ExpectedRates(Golden golden)
    {
        var groups = Groups(golden);
        var first = Rate(groups[0]);
        var rates = new SortedDictionary<string, double>(StringComparer.Ordinal);
        foreach (var group in groups)
        {
            foreach (var name in group!["params"]!.AsArray().Select(static n => OurName(n!.ToString())))
            {
                // LoRA-FA's list has the frozen parameters too.
                if (name != "..." && golden.Json["case"]!.ToString() != "opt_lorafa")
                {
                    rates[name] = IsMuon(golden) || first == 0 ? 1 : Rate(group) / first;
                }
            }
        }

        return rates;
    }

    internal static SortedDictionary<string, double> Rates(Golden golden, TrainingRun run)
    {
        using var trained = TrainedModel.Load(Again(golden, run), ModelPathOf(golden), new Device(TestDevice.Name), static _ => { });
        return new SortedDictionary<string, double>(trained.Parameters.ToDictionary(static p => p.Name, static p => p.RateFactor), StringComparer.Ordinal);
    }

    private static RunConfig Again(Golden golden, TrainingRun run) => run.Plan.Config with { Model = run.Plan.Config.Model with { Path = ModelPathOf(golden) } };

    private static string ModelPathOf(Golden golden) => Path.Combine(golden.Folder, golden.Json["base"]!.ToString());

    private static JsonArray Groups(Golden golden) => golden.Json["hyper"]!["groups"]!.AsArray();

    private static double Rate(JsonNode? group) => group!["initial_lr"]?.GetValue<double>() ?? 0;

    private static bool IsMuon(Golden golden) => Groups(golden)[0]!["optimizer"]!.ToString() == "Muon";

    private static string OurName(string live) => live.Replace("base_model.model.", "", StringComparison.Ordinal).Replace(".default", "", StringComparison.Ordinal);

    private static AdapterSection LoraPlus(Golden golden, AdapterSection section)
    {
        var groups = Groups(golden);
        return groups.Count < 4 ? section : section with { LoraplusLrRatio = Rate(groups[2]) / Rate(groups[0]), LoraplusLrEmbedding = Rate(groups[1]) };
    }

    private static TrainingSection Training(Golden golden)
    {
        var (hyper, groups) = (golden.Json["hyper"]!, Groups(golden));
        var own = groups.Count > 1 && groups[1]!["rank"] is not null ? groups[1]! : groups[0]!;
        double Number(string key, double fallback) => own[key] is { } value ? value.GetValue<double>() : fallback;
        var betas = own["betas"]?.AsArray().Select(static b => b!.GetValue<double>()).ToList() ?? [0.9, 0.95];
        var warmed = hyper["schedule"]!.ToString() != "constant";
        var training = new TrainingSection
        {
            MaxSteps = 20,
            MicroBatchSize = 2,
            LearningRate = Number("initial_lr", 1e-3),
            LrScheduler = warmed ? "cosine" : "constant",
            WarmupSteps = warmed ? 4 : (long)Number("warmup_steps", 0),
            WeightDecay = Number("weight_decay", 0),
            Betas = betas[..2],
            Eps = own["eps"] is JsonValue eps ? eps.GetValue<double>() : 1e-8,
            MaxGradNorm = hyper["clip_grad_norm"]?.GetValue<double>() ?? 0,
            MaxGradValue = hyper["clip_grad_value"]?.GetValue<double>() ?? 0,
            DecayNormsAndBiases = true,
        };
        return Optimizer(golden, own, training, betas);
    }

    private static TrainingSection Optimizer(Golden golden, JsonNode own, TrainingSection training, List<double> betas)
    {
        double Number(string key) => own[key]!.GetValue<double>();
        long? Steps(string key) => own[key]?.GetValue<long>();
        var name = golden.Json["case"]!.ToString();
        switch (own["optimizer"]!.ToString())
        {
            case "Muon":
                var rest = Groups(golden)[1]!;
                var muon = new MuonSection
                {
                    Momentum = Number("momentum"),
                    Nesterov = own["nesterov"]!.GetValue<bool>(),
                    NsSteps = (int)Number("ns_steps"),
                    Eps = Number("eps"),
                    NsCoefficients = [.. own["ns_coefficients"]!.AsArray().Select(static c => c!.GetValue<double>())],
                    AdjustLrFn = own["adjust_lr_fn"]?.ToString() ?? "original",
                    AdamwLearningRate = Rate(rest),
                    AdamwWeightDecay = rest["weight_decay"]!.GetValue<double>(),
                };
                betas = [.. rest["betas"]!.AsArray().Select(static b => b!.GetValue<double>())];
                return training with { Optimizer = "muon", Muon = muon, Betas = betas, Eps = rest["eps"]!.GetValue<double>() };
            case "Adafactor" when own["d"] is not null:
                return training with { Optimizer = "adafactor_torch", Adafactor = new AdafactorSection { ClipThreshold = Number("d"), DecayRate = Number("beta2_decay"), Eps = null } };
            case "Adafactor":
                var adafactor = new AdafactorSection
                {
                    ClipThreshold = Number("clip_threshold"),
                    DecayRate = Number("decay_rate"),
                    Beta1 = own["beta1"]?.GetValue<double>(),
                    ScaleParameter = own["scale_parameter"]!.GetValue<bool>(),
                    RelativeStep = own["relative_step"]!.GetValue<bool>(),
                    WarmupInit = own["warmup_init"]!.GetValue<bool>(),
                    Eps = [.. own["eps"]!.AsArray().Select(static e => e!.GetValue<double>())],
                };
                return training with { Optimizer = "adafactor", Adafactor = adafactor };
            case "AdEMAMix":
                return training with { Optimizer = "ademamix", Ademamix = new AdemamixSection { Beta3 = betas[2], Alpha = Number("alpha"), TAlpha = Steps("t_alpha"), TBeta3 = Steps("t_beta3") } };
            case "AdamW8bit":
                return training with { Optimizer = "adamw_8bit", Min8bitSize = 1024 };
            case "Lion8bit":
                return training with { Optimizer = "lion_8bit", Min8bitSize = 1024 };
            case "Lion":
                return training with { Optimizer = "lion" };
            case "AdamWScheduleFree":
                return training with { Optimizer = "schedule_free_adamw", ScheduleFree = new ScheduleFreeSection { Power = Number("r"), WeightLrPower = Number("weight_lr_power") } };
            case "LoraFAOptimizer":
                return training with { Optimizer = "lora_fa" };
            case "RiemannianPreconditionedOptimizer":
                return training with { Optimizer = "riemannian_adamw" };
            case "AdamW" when own["proj"] is not null:
                var apollo = new ApolloSection { Rank = (int)Number("rank"), Proj = own["proj"]!.ToString(), ScaleType = own["scale_type"]!.ToString(), Scale = Number("scale"), UpdateProjGap = (long)Number("update_proj_gap"), ProjType = own["proj_type"]!.ToString() };
                return training with { Optimizer = "apollo_adamw", Apollo = apollo };
            case "AdamW" when own["rank"] is not null:
                var galore = new GaloreSection { Rank = (int)Number("rank"), Scale = Number("scale"), UpdateProjGap = (long)Number("update_proj_gap"), ProjType = own["proj_type"]!.ToString() };
                return training with { Optimizer = "galore_adamw", Galore = galore };
            default:
                return training with { Optimizer = name.EndsWith("_bnb", StringComparison.Ordinal) ? "paged_adamw" : "adamw" };
        }
    }

    private static string Rows(Golden golden, TemporaryFolder folder)
    {
        using var batches = SafetensorsFile.Open(Path.Combine(golden.Folder, golden.Json["batches"]!.ToString()));
        using var scope = NewDisposeScope();
        long[] Values(string name) => System.Runtime.InteropServices.MemoryMarshal.Cast<byte, long>(TensorFiles.Read(batches, name).bytes).ToArray();
        var (ids, labels, mask) = (Values("input_ids"), Values("labels"), Values("attention_mask"));
        var tokens = (int)batches.GetTensor("input_ids").Shape[^1];
        var lines = Enumerable.Range(0, ids.Length / tokens).Select(row =>
        {
            var real = Enumerable.Range(row * tokens, tokens).Where(i => mask[i] != 0).ToList();
            return $$"""{"input_ids": [{{string.Join(",", real.Select(i => ids[i]))}}], "labels": [{{string.Join(",", real.Select(i => labels[i]))}}]}""";
        });
        return folder.Write("rows.jsonl", string.Join('\n', lines));
    }

    private static string InitialAdapter(Golden golden, TemporaryFolder folder)
    {
        using var initial = SafetensorsFile.Open(Path.Combine(golden.Folder, "initial.safetensors"));
        var config = golden.Json["lora"]!.DeepClone().AsObject();
        config["peft_type"] = "LORA";
        config["base_model_name_or_path"] = "llama_small";
        AdapterFolder.Write(folder.At("initial"), config, [.. initial.Tensors.Select(t => TensorToWrite.FromSource(initial, t.Name, t.Name.Replace(".default", "", StringComparison.Ordinal)))]);
        return folder.At("initial");
    }
}
