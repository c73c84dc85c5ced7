using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Adapters.Kinds;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Tests.Adapters.Walk;

/// <summary>Random settings of each kind of adapter that fit a model.</summary>
internal sealed class AdapterDraws
{
    private static readonly string[] s_leaves = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

    /// <summary>LoRA with target_parameters.</summary>
    internal const string OnExperts = "lora on experts";

    private readonly Random _random;
    private readonly CausalLanguageModel _model;
    private AdapterConfig _common = null!;

    internal AdapterDraws(Random random, CausalLanguageModel model) => (_random, _model) = (random, model);

    internal static IEnumerable<string> Kinds =>
    [
        "lora", OnExperts, "adalora", "boft", "c3a", "delora", "fourierft", "gralora", "hira", "hra", "ia3", "ln_tuning", "loha", "lokr", "miss", "oft", "randlora", "road", "shira", "vblora", "vera", "waveft",
    ];

    /// <summary>Settings of a kind.</summary>
    internal AdapterConfig Of(string kind)
    {
        if (kind == OnExperts)
        {
            return Experts();
        }

        _common = Common(new LoraConfig());
        var own = Settings(kind);
        var (layers, pattern) = (_common.LayersToTransform, _common.LayersPattern);
        if (kind is "ln_tuning")
        {
            return own with { ModulesToSave = Coin() ? ["lm_head"] : [] };
        }

        // Of an embedding they train what they train of a layer.
        var targets = kind is "lora" or "hira" or "oft" && own is not LoraConfig { LoraBias: true } && _common.Targets.Names is { } names && Coin() ? TargetModules.Of([.. names, "embed_tokens"]) : _common.Targets;
        var saved = targets.Names?.Contains("embed_tokens") != true && Coin() ? "lm_head" : null;
        return own with
        {
            Targets = targets,
            Excluded = _common.Excluded,
            LayersToTransform = layers,
            LayersPattern = pattern,
            ModulesToSave = saved is not null && _random.Next(3) == 0 ? [saved] : [],
            Bias = own is LoraConfig or BoftConfig or C3aConfig or DeloraConfig or OftConfig or VeraConfig or GraloraConfig or HraConfig ? (BiasTraining)_random.Next(3) : BiasTraining.None,
        };
    }

    private AdapterConfig Settings(string kind) => kind switch
    {
        "lora" => Lora(),
        "adalora" => new AdaloraConfig { InitR = _random.Next(1, 6), TargetR = 1, LoraAlpha = _random.Next(0, 9), TotalStep = 20, Tinit = 1, Tfinal = 2 },
        "boft" => Boft(),
        "c3a" => new C3aConfig { BlockSize = Divisor(Sizes), BlockSizePattern = _random.Next(3) == 0 ? Pattern(m => Divisor(SizesOf(m))) : new Dictionary<string, int>() },
        "delora" => new DeloraConfig { Rank = _random.Next(1, 5), DeloraLambda = 3, RankPattern = Ranks(), LambdaPattern = Numbers() },
        "fourierft" => new FourierftConfig { NFrequency = _random.Next(1, 8), Scaling = 20 * _random.NextDouble(), RandomLocSeed = _random.Next(100), NFrequencyPattern = Ranks() },
        "gralora" => Gralora(),
        "hira" => new HiraConfig { Rank = _random.Next(1, 5), RankPattern = Ranks() },
        "hra" => new HraConfig { Rank = _random.Next(1, 4), ApplyGramSchmidt = Coin() },
        "ia3" => new Ia3Config { FeedforwardModules = _random.Next(3) switch { 0 => null, 1 => new TextOrList(["down_proj", "up_proj"], IsList: true), _ => new TextOrList([@".*\.mlp\..*"], IsList: false) } },
        "ln_tuning" => new LnTuningConfig(),
        "loha" => new LohaConfig { Rank = _random.Next(1, 5), Alpha = _random.Next(1, 9), RankPattern = Ranks(), AlphaPattern = Numbers() },
        "lokr" => new LokrConfig { Rank = _random.Next(1, 4), Alpha = _random.Next(1, 9), DecomposeBoth = Coin(), DecomposeFactor = Coin() ? -1 : _random.Next(2, 6), RankPattern = Ranks(), AlphaPattern = Numbers() },
        "miss" => Miss(),
        "oft" => Oft(),
        "randlora" => new RandloraConfig { Rank = _random.Next(1, 6), RandloraAlpha = _random.Next(1, 30), Sparse = Coin() },
        "road" => new RoadConfig { Variant = $"road_{1 << _random.Next(3)}", GroupSize = 2 * Divisor([.. Adapted.Select(static l => l.OutFeatures / 2)]) },
        "shira" => new ShiraConfig { Rank = 1, RandomSeed = Coin() ? null : _random.Next(9) },
        "vblora" => new VbloraConfig { Rank = _random.Next(1, 5), VectorLength = Divisor(Sizes), NumVectors = _random.Next(4, 9), TopK = _random.Next(1, 4), SaveOnlyTopkWeights = false },
        "vera" => new VeraConfig { Rank = _random.Next(1, 9), ProjectionPrngKey = _random.Next(9) },
        "waveft" => new WaveftConfig { NFrequency = _random.Next(1, 8), Scaling = 5, WaveletFamily = new[] { "db1", "haar", "db2" }[_random.Next(3)], UseIdwt = _random.Next(4) != 0, RandomLocSeed = _random.Next(99), ProportionalParameters = _random.Next(3) == 0 },
        _ => throw new NotSupportedException(kind),
    };

    private LoraConfig Lora()
    {
        var (dora, all) = (_random.Next(3) == 0, _model.LinearLayers.Where(static l => l.Name != "lm_head").All(static l => l.Layer.Bias is not null));
        return new LoraConfig
        {
            Rank = _random.Next(1, 6),
            Alpha = _random.Next(1, 17),
            UseRslora = Coin(),
            UseDora = dora,
            LoraBias = !dora && all && _random.Next(3) == 0,
            RankPattern = Ranks(),
            AlphaPattern = Numbers(),
        };
    }

    private LoraConfig Experts()
    {
        string[] all = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj", _model.LinearLayers.Any(static l => l.Name.EndsWith(".router", StringComparison.Ordinal)) ? "router.weight" : "gate.weight"];
        string[] some = [.. all.Where(_ => Coin()).DefaultIfEmpty(all[_random.Next(2)])];
        return new LoraConfig
        {
            Rank = _random.Next(1, 4),
            Alpha = _random.Next(1, 9),
            UseRslora = Coin(),
            Targets = TargetModules.Of(Coin() ? ["q_proj", "v_proj"] : ["o_proj"]),
            TargetParameters = some,
            RankPattern = Coin() ? new Dictionary<string, int>() : new() { [some[0].Split('.')[^1] == "weight" ? some[0] : $".*\\.{some[0].Split('.')[^1]}"] = _random.Next(1, 4) },
            AlphaPattern = Coin() ? new Dictionary<string, double>() : new() { [some[0]] = _random.Next(1, 9) },
        };
    }

    private BoftConfig Boft()
    {
        long[] inputs = [.. Adapted.Select(static l => l.InFeatures)];
        var size = 2 * Divisor([.. inputs.Select(static i => i / 2)]);
        var factors = _random.Next(1, 4);
        while (factors > 1 && inputs.Any(i => i / size % (1L << (factors - 1)) != 0))
        {
            factors--;
        }

        return new BoftConfig { BoftBlockSize = size, BoftNButterflyFactor = factors };
    }

    private GraloraConfig Gralora()
    {
        var blocks = Divisor(Sizes);
        return new GraloraConfig { GraloraK = blocks, Rank = blocks * _random.Next(1, 3), HybridR = _random.Next(3), Alpha = _random.Next(1, 9) };
    }

    private MissConfig Miss() => _random.Next(3) switch
    {
        0 => new MissConfig { Rank = Divisor(Sizes), InitWeights = "bat" },
        1 => new MissConfig { Rank = _random.Next(1, 7), InitWeights = "mini", MiniR = Divisor([.. Adapted.Select(static l => l.OutFeatures)]) },
        _ => new MissConfig { Rank = _random.Next(1, 9) },
    };

    private OftConfig Oft()
    {
        var size = _random.Next(2, 6);
        return new OftConfig
        {
            OftBlockSize = Coin() ? size : 0,
            BlockShare = Coin(),
            Coft = _random.Next(3) == 0,
            Eps = 0.3,
            UseCayleyNeumann = Coin(),
            NumCayleyNeumannTerms = _random.Next(2, 8),
        } is { OftBlockSize: 0 } other ? other with { Rank = size } : new OftConfig { OftBlockSize = size, BlockShare = Coin(), UseCayleyNeumann = Coin(), NumCayleyNeumannTerms = _random.Next(2, 8) };
    }

    private T Common<T>(T config)
        where T : AdapterConfig
    {
        var names = s_leaves.Where(_ => Coin()).DefaultIfEmpty("v_proj").ToList();
        var layers = _model.LayerCount;
        var form = _random.Next(5);
        var targets = form switch
        {
            0 => TargetModules.AllLinear,
            1 => TargetModules.Of([.. names.Select(n => $"model.layers.{_random.Next(layers)}.{(n[0] is 'q' or 'k' or 'v' or 'o' ? "self_attn" : "mlp")}.{n}").Distinct(), "v_proj"]),
            2 => TargetModules.Of($@".*\.({string.Join('|', names)})"),
            3 => TargetModules.Of([.. names.Select(static n => n[0] is 'q' or 'k' or 'v' or 'o' ? $"self_attn.{n}" : $"mlp.{n}")]),
            _ => TargetModules.Of(names),
        };
        var some = form is 1 or 3 or 4 && _random.Next(3) == 0;
        AdapterConfig made = config with { Targets = targets, LayersToTransform = some ? [_random.Next(layers)] : [], LayersPattern = some && Coin() ? ["layers"] : [] };
        var excluded = _random.Next(3) switch { 0 => TargetModules.Of([names[0]]), 1 => TargetModules.Of($@"model\.layers\.{layers - 1}\..*"), _ => null };
        var fewer = made with { Excluded = excluded };
        return (T)(_model.LinearLayers.Any(l => fewer.Adapts(l.Name) && l.Name != "lm_head") ? fewer : made);
    }

    private List<LinearLayer> Adapted => [.. AdaptedNames.Select(n => _model.LinearLayers.Single(l => l.Name == n).Layer)];

    private IEnumerable<string> AdaptedNames => _model.LinearLayers.Select(static l => l.Name).Where(n => n != "lm_head" && _common.Adapts(n));

    private long[] Sizes => [.. Adapted.SelectMany(static l => new[] { l.OutFeatures, l.InFeatures })];

    private long[] SizesOf(string module) => _model.LinearLayers.Single(l => l.Name == module).Layer is var layer ? [layer.OutFeatures, layer.InFeatures] : [];

    // Keys of one module, of a leaf, of a pattern; several may match one module.
    private Dictionary<string, T> Pattern<T>(Func<string, T> value)
    {
        var made = new Dictionary<string, T>();
        var modules = AdaptedNames.ToList();
        var one = modules[_random.Next(modules.Count)];
        made[one] = value(one);
        return made;
    }

    private Dictionary<string, T> Patterns<T>(Func<T> value)
    {
        var (made, modules) = (new Dictionary<string, T>(), AdaptedNames.ToList());
        for (var i = _random.Next(4); i > 0; i--)
        {
            var module = modules[_random.Next(modules.Count)];
            var leaf = module[(module.LastIndexOf('.') + 1)..];
            made[_random.Next(5) switch { 0 => module, 1 => leaf, 2 => $@"layers\.\d+\..*\.{leaf}", 3 => $".*{leaf[^6..]}", _ => module["model.".Length..] }] = value();
        }

        return made;
    }

    private Dictionary<string, int> Ranks() => Patterns(() => _random.Next(1, 6));

    private Dictionary<string, double> Numbers() => Patterns(() => (double)_random.Next(1, 9));

    private int Divisor(IReadOnlyList<long> sizes)
    {
        var common = sizes.Aggregate(0L, static (a, b) => (long)System.Numerics.BigInteger.GreatestCommonDivisor(a, b));
        int[] divisors = [.. Enumerable.Range(1, (int)common).Where(d => common % d == 0)];
        return divisors[_random.Next(divisors.Length)];
    }

    private bool Coin() => _random.Next(2) == 0;
}
