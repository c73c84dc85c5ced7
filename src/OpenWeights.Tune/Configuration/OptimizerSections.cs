namespace OpenWeights.Tune.Configuration;

/// <summary>The training.muon section: settings of Muon, with torch's names.</summary>
internal sealed record MuonSection
{
    /// <summary>Momentum.</summary>
    [Setting("Decay rate of the momentum.", Min = 0, Max = 0.9999999)]
    public double Momentum { get; init; } = 0.95;

    /// <summary>Whether to use Nesterov momentum.</summary>
    [Setting("Nesterov momentum.")]
    public bool Nesterov { get; init; } = true;

    /// <summary>Number of Newton-Schulz iterations, ns_steps.</summary>
    [Setting("Number of Newton-Schulz iterations.", Min = 0, Max = 99)]
    public int NsSteps { get; init; } = 5;

    /// <summary>Coefficients of the Newton-Schulz iterations, ns_coefficients.</summary>
    [Setting("Coefficients a, b and c of the Newton-Schulz iterations.")]
    public IReadOnlyList<double> NsCoefficients { get; init; } = [3.4445, -4.775, 2.0315];

    /// <summary>Least norm.</summary>
    [Setting("Minimum of the norm that a matrix is divided by.", Min = 0)]
    public double Eps { get; init; } = 1e-7;

    /// <summary>Adjustment of the learning rate to a matrix's shape, adjust_lr_fn.</summary>
    [Setting("Adjustment of the learning rate to a matrix's shape: match_rms_adamw, 0.2 x sqrt(max(rows, columns)), with which learning_rate is that of AdamW; original, sqrt(max(1, rows / columns)).", OneOf = ["match_rms_adamw", "original"])]
    public string AdjustLrFn { get; init; } = "match_rms_adamw";

    /// <summary>Learning rate of the parameters that AdamW updates.</summary>
    [Setting("Learning rate of the parameters that AdamW updates (vectors, embeddings, the output head); by default learning_rate.", Min = 0)]
    public double? AdamwLearningRate { get; init; }

    /// <summary>Weight decay of the parameters that AdamW updates.</summary>
    [Setting("Weight decay of the parameters that AdamW updates; by default weight_decay.", Min = 0)]
    public double? AdamwWeightDecay { get; init; }
}

/// <summary>The training.adafactor section: settings of Adafactor, with transformers' names.</summary>
internal sealed record AdafactorSection
{
    /// <summary>Whether rates are scaled by the parameters' sizes, scale_parameter.</summary>
    [Setting("Scale the learning rate of each parameter by its root mean square; adafactor_torch always does.")]
    public bool ScaleParameter { get; init; }

    /// <summary>Whether the rate is derived from the step, relative_step.</summary>
    [Setting("adafactor: derive the learning rate from the step, min(0.01, 1 / sqrt(step)), instead of learning_rate and the schedule.")]
    public bool RelativeStep { get; init; }

    /// <summary>Whether the derived rate rises from 0, warmup_init.</summary>
    [Setting("adafactor with relative_step: let the rate rise by 1e-6 per step from 0.")]
    public bool WarmupInit { get; init; }

    /// <summary>Largest root mean square of an update, clip_threshold.</summary>
    [Setting("Largest root mean square of an update; torch's d.", Min = 0.000001)]
    public double ClipThreshold { get; init; } = 1;

    /// <summary>Power of the second moment's decay rate, decay_rate.</summary>
    [Setting("Power of the step by which the second moment's decay rate approaches 1; torch's beta2_decay.", Min = -10, Max = 0)]
    public double DecayRate { get; init; } = -0.8;

    /// <summary>Decay rate of a mean of the updates.</summary>
    [Setting("adafactor: decay rate of a mean of the updates, which needs as much memory as the parameters; by default none.", Min = 0, Max = 0.9999999)]
    public double? Beta1 { get; init; }

    /// <summary>Epsilons.</summary>
    [Setting("Two numbers: one that is added to squared gradients (adafactor_torch: their minimum), and the minimum size of a parameter; by default [1e-30, 0.001], for adafactor_torch [1.19e-7, 0.001].", Min = 0)]
    public IReadOnlyList<double>? Eps { get; init; }
}

/// <summary>The training.ademamix section: settings of AdEMAMix, with bitsandbytes' names.</summary>
internal sealed record AdemamixSection
{
    /// <summary>Decay rate of the slow average.</summary>
    [Setting("Decay rate of the slow average of the gradients.", Min = 0, Max = 0.9999999)]
    public double Beta3 { get; init; } = 0.9999;

    /// <summary>Weight of the slow average.</summary>
    [Setting("Weight of the slow average.", Min = 0)]
    public double Alpha { get; init; } = 5;

    /// <summary>Steps over which alpha rises, t_alpha.</summary>
    [Setting("Steps over which alpha rises from 0; by default none.", Min = 1)]
    public long? TAlpha { get; init; }

    /// <summary>Steps over which beta3 rises, t_beta3.</summary>
    [Setting("Steps over which beta3 rises from the first of betas; by default none.", Min = 1)]
    public long? TBeta3 { get; init; }
}

/// <summary>The training.schedule_free section: settings of schedule-free AdamW, with schedulefree's names.</summary>
internal sealed record ScheduleFreeSection
{
    /// <summary>Power of the step in the average's weights.</summary>
    [Setting("Power of the step in the weights of the average.", Key = "r", Min = 0)]
    public double Power { get; init; }

    /// <summary>Power of the rate in the average's weights, weight_lr_power.</summary>
    [Setting("Power of the learning rate in the weights of the average, which matters during warmup.", Min = 0)]
    public double WeightLrPower { get; init; } = 2;
}

/// <summary>The training.galore section: settings of GaLore, with galore-torch's names.</summary>
internal sealed record GaloreSection
{
    /// <summary>Rank of the projection.</summary>
    [Setting("Rank of the projected gradients.", Min = 1)]
    public int Rank { get; init; } = 128;

    /// <summary>Steps between projections, update_proj_gap.</summary>
    [Setting("Steps after which the projection is made again from the gradient's singular vectors.", Min = 1)]
    public long UpdateProjGap { get; init; } = 200;

    /// <summary>Factor of the update.</summary>
    [Setting("Factor of the update.", Min = 0)]
    public double Scale { get; init; } = 0.25;

    /// <summary>Side of the projection, proj_type.</summary>
    [Setting("Side of the projection: std (that of the smaller dimension), reverse_std, left, right, or full (both).", OneOf = ["std", "reverse_std", "left", "right", "full"])]
    public string ProjType { get; init; } = "std";
}

/// <summary>The training.apollo section: settings of APOLLO, with apollo-torch's names. The defaults are those of APOLLO-Mini.</summary>
internal sealed record ApolloSection
{
    /// <summary>Rank of the projection.</summary>
    [Setting("Rank of the projected gradients; 1 is APOLLO-Mini.", Min = 1)]
    public int Rank { get; init; } = 1;

    /// <summary>Kind of projection, proj.</summary>
    [Setting("Projection: random, or svd (singular vectors of the gradient).", OneOf = ["random", "svd"])]
    public string Proj { get; init; } = "random";

    /// <summary>What has a factor of its own, scale_type.</summary>
    [Setting("What gets its own scaling factor: tensor (each matrix), or channel (each row or column).", OneOf = ["tensor", "channel"])]
    public string ScaleType { get; init; } = "tensor";

    /// <summary>Steps between projections, update_proj_gap.</summary>
    [Setting("Steps after which the projection is made again.", Min = 1)]
    public long UpdateProjGap { get; init; } = 200;

    /// <summary>Square of the update's factor.</summary>
    [Setting("The update is multiplied by the square root of this; 128 is usual for rank 1, 1 for larger ranks.", Min = 0)]
    public double Scale { get; init; } = 1;

    /// <summary>Side of the projection, proj_type.</summary>
    [Setting("Side of the projection: std (that of the smaller dimension), reverse_std, left or right.", OneOf = ["std", "reverse_std", "left", "right"])]
    public string ProjType { get; init; } = "std";
}

/// <summary>The training.riemannian section: settings of Riemannian preconditioned LoRA, with PEFT's names.</summary>
internal sealed record RiemannianSection
{
    /// <summary>Damping.</summary>
    [Setting("Added to the diagonal of the matrices that are inverted.", Min = 0)]
    public double Reg { get; init; } = 0.01;
}

/// <summary>The training.ema section: an exponential moving average of the trained weights.</summary>
public sealed record EmaSection
{
    /// <summary>Weight of the average so far.</summary>
    [Setting("Weight of the average so far in each step; the average spans about 1 / (1 - decay) steps.", Min = 0, Max = 0.9999999)]
    public double Decay { get; init; } = 0.999;

    /// <summary>Which weights are the result.</summary>
    [Setting("Which weights are evaluated, kept as the best and saved as the result: averaged, or last. Checkpoints hold both.", OneOf = ["averaged", "last"])]
    public string Result { get; init; } = "averaged";
}
