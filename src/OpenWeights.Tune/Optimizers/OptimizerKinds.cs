using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Optimizers;

/// <summary>The optimizers by config name. To add one, add its file and a line here.</summary>
internal static class OptimizerKinds
{
    private delegate IOptimizer Maker(IReadOnlyList<TrainedParameter> parameters, TrainingSection settings, OptimizerMemory memory);

    private static readonly Dictionary<string, Maker> s_kinds = new()
    {
        ["adamw"] = static (parameters, settings, memory) => new AdamW(parameters, Adam(settings), memory),
        ["adamw_8bit"] = static (parameters, settings, memory) => new AdamW(parameters, Adam(settings), Coded(memory, settings)),
        ["paged_adamw"] = static (parameters, settings, memory) => new AdamW(parameters, Adam(settings), Paged(memory)),
        ["paged_adamw_8bit"] = static (parameters, settings, memory) => new AdamW(parameters, Adam(settings), Paged(Coded(memory, settings))),
        ["sgd"] = static (parameters, settings, memory) => new Sgd(parameters, settings.Momentum, settings.WeightDecay, memory),
        ["lion"] = Lion,
        ["lion_8bit"] = static (parameters, settings, memory) => Lion(parameters, settings, Coded(memory, settings)),
        ["paged_lion"] = static (parameters, settings, memory) => Lion(parameters, settings, Paged(memory)),
        ["paged_lion_8bit"] = static (parameters, settings, memory) => Lion(parameters, settings, Paged(Coded(memory, settings))),
        ["ademamix"] = AdEmaMix,
        ["ademamix_8bit"] = static (parameters, settings, memory) => AdEmaMix(parameters, settings, Coded(memory, settings)),
        ["paged_ademamix"] = static (parameters, settings, memory) => AdEmaMix(parameters, settings, Paged(memory)),
        ["paged_ademamix_8bit"] = static (parameters, settings, memory) => AdEmaMix(parameters, settings, Paged(Coded(memory, settings))),
        ["adafactor"] = static (parameters, settings, memory) => new Adafactor(parameters, Factored(settings.Adafactor, [1e-30, 1e-3]), settings.WeightDecay, memory),
        ["adafactor_torch"] = static (parameters, settings, memory) => new AdafactorTorch(parameters, Factored(settings.Adafactor, [1.1920928955078125e-07, 1e-3]), settings.WeightDecay, memory),
        ["muon"] = Muon,
        ["schedule_free_adamw"] = static (parameters, settings, memory) => new ScheduleFreeAdamW(
            parameters, Adam(settings), new ScheduleFreeSettings(settings.WarmupSteps ?? 0, settings.ScheduleFree.Power, settings.ScheduleFree.WeightLrPower), memory),
        ["galore_adamw"] = static (parameters, settings, memory) => new GaLoreAdamW(
            parameters, Adam(settings), new ProjectionSettings(settings.Galore.Rank, settings.Galore.UpdateProjGap, settings.Galore.Scale, settings.Galore.ProjType), memory),
        ["apollo_adamw"] = Apollo,
        ["lora_fa"] = static (parameters, settings, memory) => new LoraFa(parameters, Adam(settings), memory),
        ["riemannian_adamw"] = static (parameters, settings, memory) => new RiemannianAdamW(parameters, Adam(settings), settings.Riemannian.Reg, memory),
    };

    /// <summary>The valid config names.</summary>
    public static IReadOnlyList<string> Names { get; } = [.. s_kinds.Keys];

    /// <summary>Creates the optimizer named in the settings.</summary>
    /// <param name="parameters">Parameters to train.</param>
    /// <param name="settings">The training settings, with the number of warmup steps.</param>
    /// <exception cref="ConfigException">A setting is invalid.</exception>
    public static IOptimizer Create(IReadOnlyList<TrainedParameter> parameters, TrainingSection settings)
    {
        ArgumentNullException.ThrowIfNull(parameters);
        ArgumentNullException.ThrowIfNull(settings);
        SettingCheck.Require(settings);
        var rounding = settings.LowPrecision == "stochastic_rounding" ? LowPrecision.StochasticRounding : LowPrecision.MasterWeights;
        return s_kinds[settings.Optimizer](Targeted(parameters, settings), settings, new OptimizerMemory(rounding, settings.Offload == "optimizer"));
    }

    /// <summary>Whether Muon, GaLore or APOLLO update a parameter themselves: a hidden layer's matrix that optim_target_modules names.</summary>
    /// <param name="parameter">The parameter.</param>
    /// <param name="settings">The training settings.</param>
    internal static bool IsProjected(TrainedParameter parameter, TrainingSection settings) => parameter.IsHiddenMatrix
        && (settings.OptimTargetModules is not { } names || names.Values is ["all-linear"] || names.Values.Any(n => NamePattern.Matches(n, parameter.Name)));

    private static IReadOnlyList<TrainedParameter> Targeted(IReadOnlyList<TrainedParameter> parameters, TrainingSection settings) =>
        [.. parameters.Select(p => p with { IsHiddenMatrix = IsProjected(p, settings) })];

    private static OptimizerMemory Coded(OptimizerMemory memory, TrainingSection settings) => memory with { CodedFrom = Math.Max(1, settings.Min8bitSize) };

    private static OptimizerMemory Paged(OptimizerMemory memory) => memory with { IsPaged = true };

    private static AdamSettings Adam(TrainingSection settings) => new(settings.Betas[0], settings.Betas[1], settings.Eps, settings.WeightDecay);

    private static Lion Lion(IReadOnlyList<TrainedParameter> parameters, TrainingSection settings, OptimizerMemory memory) =>
        new(parameters, settings.Betas[0], settings.Betas[1], settings.WeightDecay, memory);

    private static AdEmaMix AdEmaMix(IReadOnlyList<TrainedParameter> parameters, TrainingSection settings, OptimizerMemory memory)
    {
        var own = settings.Ademamix;
        return new AdEmaMix(parameters, Adam(settings), new AdEmaMixSettings(own.Beta3, own.Alpha, own.TAlpha, own.TBeta3), memory);
    }

    private static AdafactorSettings Factored(AdafactorSection section, double[] epsilons)
    {
        var eps = section.Eps ?? epsilons;
        return new AdafactorSettings(eps[0], eps[1], section.ClipThreshold, section.DecayRate)
        {
            Beta1 = section.Beta1,
            ScaleParameter = section.ScaleParameter,
            RelativeStep = section.RelativeStep,
            WarmupInit = section.WarmupInit,
        };
    }

    private static Muon Muon(IReadOnlyList<TrainedParameter> parameters, TrainingSection settings, OptimizerMemory memory)
    {
        var own = settings.Muon;
        var factor = own.AdamwLearningRate is { } rate && settings.LearningRate > 0 ? rate / settings.LearningRate : 1;
        var adam = Adam(settings) with { WeightDecay = own.AdamwWeightDecay ?? settings.WeightDecay };
        return new Muon(parameters, new MuonSettings(own.Momentum, own.Nesterov, own.NsCoefficients, own.NsSteps, own.Eps, own.AdjustLrFn == "match_rms_adamw", factor), adam, settings.WeightDecay, memory);
    }

    // A random projection's seed is the parameter's number, those that are projected coming last, as in apollo-torch.
    private static ApolloAdamW Apollo(IReadOnlyList<TrainedParameter> parameters, TrainingSection settings, OptimizerMemory memory)
    {
        var (own, others) = (settings.Apollo, parameters.Count(static p => !p.IsHiddenMatrix));
        long[] numbers = [.. parameters.Select((p, i) => (long)others + 1 + parameters.Take(i).Count(static q => q.IsHiddenMatrix))];
        var projection = new ProjectionSettings(own.Rank, own.UpdateProjGap, own.Scale, own.ProjType) { Seeds = own.Proj == "random" ? i => numbers[i] : null };
        return new ApolloAdamW(parameters, Adam(settings), projection, own.ScaleType == "tensor", memory);
    }
}
