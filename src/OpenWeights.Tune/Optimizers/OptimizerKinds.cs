using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Optimizers;

/// <summary>The optimizers by config name. To add one, add its file and a line here.</summary>
public static class OptimizerKinds
{
    private static readonly Dictionary<string, Func<IReadOnlyList<TrainedParameter>, TrainingSection, OptimizerMemory, IOptimizer>> s_kinds = new()
    {
        ["adamw"] = static (parameters, settings, memory) => new AdamW(parameters, Adam(settings), memory),
        ["adamw_8bit"] = static (parameters, settings, memory) => new AdamW8Bit(parameters, Adam(settings), memory),
        ["sgd"] = static (parameters, settings, memory) => new Sgd(parameters, settings.Momentum, settings.WeightDecay, memory),
        ["lion"] = static (parameters, settings, memory) => new Lion(parameters, settings.Betas[0], settings.Betas[1], settings.WeightDecay, memory),
        ["adafactor"] = static (parameters, settings, memory) => new Adafactor(parameters, settings.WeightDecay, memory),
    };

    /// <summary>The valid config names.</summary>
    public static IReadOnlyList<string> Names { get; } = [.. s_kinds.Keys];

    /// <summary>Creates the optimizer named in the settings.</summary>
    /// <param name="parameters">Parameters to train.</param>
    /// <param name="settings">The training settings.</param>
    /// <exception cref="ConfigException">A setting is invalid.</exception>
    public static IOptimizer Create(IReadOnlyList<TrainedParameter> parameters, TrainingSection settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        SettingCheck.Require(settings);
        var rounding = settings.LowPrecision == "stochastic_rounding" ? LowPrecision.StochasticRounding : LowPrecision.MasterWeights;
        return s_kinds[settings.Optimizer](parameters, settings, new OptimizerMemory(rounding, settings.Offload == "optimizer"));
    }

    private static AdamSettings Adam(TrainingSection settings) => new(settings.Betas[0], settings.Betas[1], settings.Eps, settings.WeightDecay);
}
