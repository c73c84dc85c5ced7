using OpenWeights.Tune.Extensions;

namespace OpenWeights.Tune.Configuration;

/// <summary>The training section: settings of the training loop.</summary>
public sealed record TrainingSection
{
    /// <summary>Number of optimizer steps.</summary>
    [Setting("Number of optimizer steps; by default given by epochs.", Min = 1)]
    public long? MaxSteps { get; init; }

    /// <summary>Number of epochs.</summary>
    [Setting("Number of passes over the training rows; used if max_steps is not set.", Min = 0.000001)]
    public double Epochs { get; init; } = 1;

    /// <summary>Micro-batch size.</summary>
    [Setting("Rows per micro-batch; by default 4, or fewer if the run would have only a few steps.", Min = 1)]
    public int? MicroBatchSize { get; init; }

    /// <summary>Micro-batch size, before the number of steps is considered.</summary>
    internal int RowsAtOnce => MicroBatchSize ?? 4;

    /// <summary>Micro-batches per optimizer step.</summary>
    [Setting("Micro-batches whose gradients are accumulated for one optimizer step.", Min = 1)]
    public int GradientAccumulationSteps { get; init; } = 1;

    /// <summary>Peak learning rate.</summary>
    [Setting("Learning rate after warmup.", Min = 0)]
    public double LearningRate { get; init; } = 2e-4;

    /// <summary>Learning rate schedule.</summary>
    [Setting(
        "Learning rate schedule after warmup; by default cosine, and constant for an optimizer that derives the rate itself (schedule_free_adamw, adafactor with relative_step). FILE.dll:CLASS names a class of your own.",
        OneOf = ["constant", "linear", "cosine", "cosine_with_restarts", "cosine_warmup_with_min_lr", "polynomial", "warmup_stable_decay", "inverse_sqrt"],
        OrOwnClass = true)]
    public string? LrScheduler { get => CustomSchedule is { } own ? OwnClass.NameOf(own) : field; init; }

    /// <summary>A schedule of your own, in the place of <see cref="LrScheduler"/>; null for none.</summary>
    public IRateSchedule? CustomSchedule { get; init; }

    /// <summary>The learning rate schedule, chosen by the optimizer if it is not set.</summary>
    internal string Schedule => LrScheduler ?? (HasOwnRate ? "constant" : "cosine");

    /// <summary>Whether the optimizer derives the learning rate from the step itself.</summary>
    internal bool HasOwnRate => Optimizer == "schedule_free_adamw" || (Optimizer == "adafactor" && Adafactor.RelativeStep);

    /// <summary>Minimum learning rate as a fraction of learning_rate.</summary>
    [Setting("Final learning rate of the schedule, as a fraction of learning_rate.", Min = 0, Max = 1)]
    public double MinLrRatio { get; init; }

    /// <summary>Number of cosine cycles.</summary>
    [Setting("Number of cycles of cosine and cosine_with_restarts, with a warm restart at the start of each.", Min = 1)]
    public int LrCycles { get; init; } = 1;

    /// <summary>Number of waves of the cosine, lr_num_cycles.</summary>
    [Setting("Number of waves of a cosine without restarts, which falls and rises in each; transformers' num_cycles. 0.5 falls once.", Min = 0)]
    public double LrNumCycles { get; init; } = 0.5;

    /// <summary>Power of the polynomial schedule.</summary>
    [Setting("Power of the polynomial schedule; 1 is linear.", Min = 0)]
    public double LrPower { get; init; } = 1;

    /// <summary>Number of decay steps.</summary>
    [Setting("Number of decay steps at the end of warmup_stable_decay; by default a tenth of the run.", Min = 1)]
    public long? LrDecaySteps { get; init; }

    /// <summary>Number of steps at the peak.</summary>
    [Setting("warmup_stable_decay: number of steps at the peak; by default all that warmup and decay leave.", Min = 0)]
    public long? LrStableSteps { get; init; }

    /// <summary>Shape of the warmup.</summary>
    [Setting("warmup_stable_decay: shape of the warmup, which begins at min_lr_ratio.", OneOf = ["linear", "cosine", "1-sqrt"])]
    public string LrWarmupType { get; init; } = "linear";

    /// <summary>Shape of the decay.</summary>
    [Setting("warmup_stable_decay: shape of the decay.", OneOf = ["linear", "cosine", "1-sqrt"])]
    public string LrDecayType { get; init; } = "cosine";

    /// <summary>Time scale of inverse_sqrt.</summary>
    [Setting("inverse_sqrt: number of steps that the decay is measured in; by default warmup_steps, or 10,000 without warmup.", Min = 1)]
    public long? LrTimescale { get; init; }

    /// <summary>First learning rate of cosine_warmup_with_min_lr.</summary>
    [Setting("cosine_warmup_with_min_lr: learning rate of the first step as a fraction of learning_rate; by default one warmup step's.", Min = 0, Max = 1)]
    public double? WarmupLrRate { get; init; }

    /// <summary>Factors of the learning rate by name pattern.</summary>
    [Setting("Factors of learning_rate by parameter, such as { lora_B: 16, embed: 0.1 }: a piece of a name, or a regular expression found in it; the first that matches applies.", Min = 0)]
    public IReadOnlyDictionary<string, double> Rates { get; init; } = new Dictionary<string, double>();

    /// <summary>Number of warmup steps.</summary>
    [Setting("Number of warmup steps, in which the learning rate rises linearly from 0; by default 10, and at most a tenth of the run.", Min = 0)]
    public long? WarmupSteps { get; init; }

    /// <summary>Warmup steps as a fraction of the run.</summary>
    [Setting("Warmup steps as a fraction of the run's steps, instead of warmup_steps.", Min = 0, Max = 1)]
    public double? WarmupRatio { get; init; }

    /// <summary>Optimizer.</summary>
    [Setting(
        "Optimizer (docs/optimizers.md): _8bit needs a quarter of the memory for its state, adafactor and apollo_adamw almost none; paged_ keeps it in CPU memory if the model is on a GPU; lora_fa and riemannian_adamw are for LoRA.",
        OneOf =
        [
            "adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit", "sgd", "lion", "lion_8bit", "paged_lion", "paged_lion_8bit", "ademamix", "ademamix_8bit", "paged_ademamix", "paged_ademamix_8bit",
            "adafactor", "adafactor_torch", "muon", "schedule_free_adamw", "galore_adamw", "apollo_adamw", "lora_fa", "riemannian_adamw",
        ])]
    public string Optimizer { get; init; } = "adamw";

    /// <summary>Weight decay.</summary>
    [Setting("Weight decay coefficient, multiplied by the learning rate; decoupled for all optimizers except sgd.", Min = 0)]
    public double WeightDecay { get; init; } = 0.01;

    /// <summary>Whether norms and biases decay.</summary>
    [Setting("Apply weight decay to norms and biases as well.")]
    public bool DecayNormsAndBiases { get; init; }

    /// <summary>Betas of AdamW and Lion.</summary>
    [Setting("AdamW: decay rates of the moving averages of the gradient and its square; Lion: its two betas.", Min = 0, Max = 0.9999999)]
    public IReadOnlyList<double> Betas { get; init; } = [0.9, 0.95];

    /// <summary>Epsilon of AdamW.</summary>
    [Setting("AdamW: term added to the denominator for numerical stability.", Min = 0)]
    public double Eps { get; init; } = 1e-8;

    /// <summary>Momentum of SGD.</summary>
    [Setting("SGD: momentum factor; 0 for none.", Min = 0, Max = 0.9999999)]
    public double Momentum { get; init; }

    /// <summary>Least number of elements for 8-bit state, min_8bit_size.</summary>
    [Setting("8-bit optimizers: parameters of fewer elements keep float32 state.", Key = "min_8bit_size", Min = 1)]
    public long Min8bitSize { get; init; } = 4096;

    /// <summary>Matrices that Muon, GaLore and APOLLO update, optim_target_modules.</summary>
    [Setting("muon, galore_adamw, apollo_adamw: names or patterns of the hidden layers' matrices to update with them; by default all. The rest is updated with AdamW.")]
    public TextOrList? OptimTargetModules { get; init; }

    /// <summary>Settings of Muon.</summary>
    [Setting("muon: its settings, with torch's names.")]
    internal MuonSection Muon { get; init; } = new();

    /// <summary>Settings of Adafactor.</summary>
    [Setting("adafactor and adafactor_torch: their settings, with transformers' names.")]
    internal AdafactorSection Adafactor { get; init; } = new();

    /// <summary>Settings of AdEMAMix.</summary>
    [Setting("ademamix: its settings, with bitsandbytes' names.")]
    internal AdemamixSection Ademamix { get; init; } = new();

    /// <summary>Settings of schedule-free AdamW.</summary>
    [Setting("schedule_free_adamw: its settings, with schedulefree's names.")]
    internal ScheduleFreeSection ScheduleFree { get; init; } = new();

    /// <summary>Settings of GaLore.</summary>
    [Setting("galore_adamw: its settings, with galore-torch's names.")]
    internal GaloreSection Galore { get; init; } = new();

    /// <summary>Settings of APOLLO.</summary>
    [Setting("apollo_adamw: its settings, with apollo-torch's names.")]
    internal ApolloSection Apollo { get; init; } = new();

    /// <summary>Settings of Riemannian preconditioned LoRA.</summary>
    [Setting("riemannian_adamw: its settings, with PEFT's names.")]
    internal RiemannianSection Riemannian { get; init; } = new();

    /// <summary>Moving average of the weights.</summary>
    [Setting("Exponential moving average of the trained weights, which is evaluated and saved; by default none.")]
    public EmaSection? Ema { get; init; }

    /// <summary>How low-precision trained weights are updated.</summary>
    [Setting("How trained bfloat16 weights accumulate small updates: master_weights keeps a float32 copy; stochastic_rounding needs none.", OneOf = ["master_weights", "stochastic_rounding"])]
    public string LowPrecision { get; init; } = "master_weights";

    /// <summary>Maximum gradient norm.</summary>
    [Setting("Gradient clipping: maximum global gradient norm; 0 for no clipping.", Min = 0)]
    public double MaxGradNorm { get; init; } = 1.0;

    /// <summary>Largest magnitude of a gradient's element.</summary>
    [Setting("Gradient clipping by value: largest magnitude of an element, before max_grad_norm; 0 for no clipping.", Min = 0)]
    public double MaxGradValue { get; init; }

    /// <summary>Strength of the noise on embeddings.</summary>
    [Setting("NEFTune: strength of the noise that is added to the embeddings in training, uniform within this / sqrt(tokens x hidden size); 5 to 15 are usual, 0 for none.", Min = 0)]
    public double NeftuneNoiseAlpha { get; init; }

    /// <summary>Which weights are trained.</summary>
    [Setting("Full fine-tuning: which weights are trained, all or norms_and_biases only.", OneOf = ["all", "norms_and_biases"])]
    public string Trainable { get; init; } = "all";

    /// <summary>First trained layer.</summary>
    [Setting("Full fine-tuning: index of the first trained decoder layer, from 0; above 0, earlier layers and the embedding are frozen.", Min = 0)]
    public int FirstTrainedLayer { get; init; }

    /// <summary>Activation checkpointing.</summary>
    [Setting(
        "Activation checkpointing, which recomputes activations in the backward pass to save memory: none (or false); block (or true: whole layers; least memory, about a third more time); selective (layers without their attention; a little more memory, less time).",
        OneOf = ["none", "block", "selective", "true", "false"])]
    public string ActivationCheckpointing { get; init; } = "none";

    /// <summary>Activation checkpointing as an enum value.</summary>
    internal ActivationCheckpointing Checkpointing => ActivationCheckpointing switch
    {
        "block" or "true" => Configuration.ActivationCheckpointing.Block,
        "selective" => Configuration.ActivationCheckpointing.Selective,
        _ => Configuration.ActivationCheckpointing.None,
    };

    /// <summary>What is kept in CPU memory.</summary>
    [Setting(
        "GPU only: what to keep in CPU memory. optimizer: the optimizer state, with the update computed on the CPU; activations: those stored by activation_checkpointing.",
        OneOf = ["none", "activations", "optimizer"])]
    public string Offload { get; init; } = "none";

    /// <summary>What to do if a loss or gradient is not finite.</summary>
    [Setting("What to do if a loss or gradient is not finite: stop the run, or skip the step and count it.", OneOf = ["stop", "skip"])]
    public string NonFinite { get; init; } = "stop";

    /// <summary>Whether the longest rows are run first.</summary>
    [Setting("Run the longest batch once before training, so that a run that does not fit into memory fails at once; by default on a GPU only.")]
    public bool? WorstBatchFirst { get; init; }

    /// <summary>
    /// A copy with one more setting, by its name in YAML, for settings of one optimizer, which have no property here:
    /// <c>new TrainingSection { Optimizer = "muon" }.With("muon.momentum", 0.9)</c>.
    /// </summary>
    /// <remarks>
    /// muon (momentum, nesterov, ns_steps, ns_coefficients, eps, adjust_lr_fn, adamw_learning_rate, adamw_weight_decay), adafactor (scale_parameter,
    /// relative_step, warmup_init, clip_threshold, decay_rate, beta1, eps), ademamix (beta3, alpha, t_alpha, t_beta3), schedule_free (r, weight_lr_power),
    /// galore (rank, update_proj_gap, scale, proj_type), apollo (rank, proj, scale_type, update_proj_gap, scale, proj_type), riemannian (reg);
    /// docs/optimizers.md and docs/settings.md tell what they do.
    /// </remarks>
    /// <param name="name">The name, with a dot before that of a setting of a setting; every name of the section is understood.</param>
    /// <param name="value">Its value: a text, a number, true or false, a list, or a dictionary of names and values.</param>
    /// <exception cref="ConfigException">There is no such setting, or the value is invalid.</exception>
    public TrainingSection With(string name, object? value)
    {
        var copy = this with { };
        NamedSetting.Set(copy, "training.", name, value);
        return copy;
    }
}

/// <summary>Activation checkpointing (Chen et al., 2016): what is stored for the backward pass, and what is recomputed.</summary>
internal enum ActivationCheckpointing
{
    /// <summary>Everything is stored.</summary>
    None,

    /// <summary>Only the input of each layer is stored; the layer is recomputed.</summary>
    Block,

    /// <summary>
    /// The input of each layer and the output of its attention are stored: attention is the most expensive part to recompute, more so for
    /// long rows. On a GPU, where attention is torch's fused kernel, every second layer is stored completely instead (like torchtune's
    /// selective
    /// checkpointing).
    /// </summary>
    Selective,
}
