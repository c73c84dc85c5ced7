namespace OpenWeights.Tune.Configuration;

/// <summary>The training loop's settings.</summary>
public sealed record TrainingSection
{
    /// <summary>The number of steps.</summary>
    [Setting("The number of optimizer steps; left out, epochs decide.", Min = 1)]
    public long? MaxSteps { get; init; }

    /// <summary>The number of epochs.</summary>
    [Setting("How often all rows are gone through, where max_steps is left out.", Min = 0.000001)]
    public double Epochs { get; init; } = 1;

    /// <summary>Rows at once.</summary>
    [Setting("Rows that go through the model at once; left out, 4, and fewer where the run would have only a few steps.", Min = 1)]
    public int? MicroBatchSize { get; init; }

    /// <summary>Rows at once, where the data changes nothing about it.</summary>
    public int RowsAtOnce => MicroBatchSize ?? 4;

    /// <summary>Micro-batches of a step.</summary>
    [Setting("Micro-batches whose gradients make one optimizer step.", Min = 1)]
    public int GradientAccumulationSteps { get; init; } = 1;

    /// <summary>The rate after warm-up.</summary>
    [Setting("The learning rate after warm-up.", Min = 0)]
    public double LearningRate { get; init; } = 2e-4;

    /// <summary>The schedule.</summary>
    [Setting("How the learning rate goes on after warm-up.", OneOf = ["constant", "linear", "cosine", "polynomial", "warmup_stable_decay", "inverse_sqrt"])]
    public string LrScheduler { get; init; } = "cosine";

    /// <summary>The least learning rate.</summary>
    [Setting("The learning rate that the schedule ends at, as a share of learning_rate.", Min = 0, Max = 1)]
    public double MinLrRatio { get; init; }

    /// <summary>Cycles of the cosine.</summary>
    [Setting("How often the cosine goes down, each time from the top.", Min = 1)]
    public int LrCycles { get; init; } = 1;

    /// <summary>The power of the polynomial schedule.</summary>
    [Setting("The power of the polynomial schedule; 1 is linear.", Min = 0)]
    public double LrPower { get; init; } = 1;

    /// <summary>Steps of decay.</summary>
    [Setting("Steps in which warmup_stable_decay goes down at the end; left out, a tenth of the run.", Min = 1)]
    public long? LrDecaySteps { get; init; }

    /// <summary>Steps of warm-up.</summary>
    [Setting("Steps in which the learning rate rises from 0; left out, 10, and at most a tenth of the run.", Min = 0)]
    public long? WarmupSteps { get; init; }

    /// <summary>The share of steps of warm-up.</summary>
    [Setting("The share of the run's steps in which the learning rate rises from 0, in the place of warmup_steps.", Min = 0, Max = 1)]
    public double? WarmupRatio { get; init; }

    /// <summary>The optimizer.</summary>
    [Setting("The optimizer; adamw_8bit keeps its state in a quarter of the memory, adafactor in next to none.", OneOf = ["adamw", "adamw_8bit", "sgd", "lion", "adafactor"])]
    public string Optimizer { get; init; } = "adamw";

    /// <summary>Weight decay.</summary>
    [Setting("Weight decay per unit of learning rate.", Min = 0)]
    public double WeightDecay { get; init; } = 0.01;

    /// <summary>Whether norms and biases decay.</summary>
    [Setting("Whether weight decay applies to norms and biases too.")]
    public bool DecayNormsAndBiases { get; init; }

    /// <summary>AdamW's betas.</summary>
    [Setting("The decay of AdamW's means of gradients and of squared gradients; Lion's two decays.", Min = 0, Max = 0.9999999)]
    public IReadOnlyList<double> Betas { get; init; } = [0.9, 0.95];

    /// <summary>AdamW's epsilon.</summary>
    [Setting("What keeps AdamW's denominator from being zero.", Min = 0)]
    public double Eps { get; init; } = 1e-8;

    /// <summary>SGD's momentum.</summary>
    [Setting("How much of the step before goes on in sgd; 0 for none.", Min = 0, Max = 0.9999999)]
    public double Momentum { get; init; }

    /// <summary>How trained parameters of lower precision are kept.</summary>
    [Setting("How trained bfloat16 weights take small updates: a float32 copy, or rounding up and down at random without one.", OneOf = ["master_weights", "stochastic_rounding"])]
    public string LowPrecision { get; init; } = "master_weights";

    /// <summary>The largest norm of gradients.</summary>
    [Setting("The largest norm of all gradients together; 0 for no limit.", Min = 0)]
    public double MaxGradNorm { get; init; } = 1.0;

    /// <summary>Which weights are trained.</summary>
    [Setting("Without an adapter: which weights are trained, all or only norms_and_biases.", OneOf = ["all", "norms_and_biases"])]
    public string Trainable { get; init; } = "all";

    /// <summary>The first layer that is trained.</summary>
    [Setting("Without an adapter: the first decoder layer that is trained, from 0; above 0 the layers before it and the embedding stay as they are.", Min = 0)]
    public int FirstTrainedLayer { get; init; }

    /// <summary>Activation checkpointing.</summary>
    [Setting(
        "What backward computes again instead of keeping it: none (or false), block (or true: whole layers, least memory, about a third more time), or selective (layers without their attention, a little more memory, less time).",
        OneOf = ["none", "block", "selective", "true", "false"])]
    public string ActivationCheckpointing { get; init; } = "none";

    /// <summary>The same without its other spellings.</summary>
    public ActivationCheckpointing Checkpointing => ActivationCheckpointing switch
    {
        "block" or "true" => Configuration.ActivationCheckpointing.Block,
        "selective" => Configuration.ActivationCheckpointing.Selective,
        _ => Configuration.ActivationCheckpointing.None,
    };

    /// <summary>What waits in the CPU's memory.</summary>
    [Setting(
        "What a run on a GPU keeps in the CPU's memory instead: the optimizer's state, which then steps there, or the activations that activation_checkpointing keeps.",
        OneOf = ["none", "activations", "optimizer"])]
    public string Offload { get; init; } = "none";

    /// <summary>What happens at a loss or a gradient that is not finite.</summary>
    [Setting("What happens where a loss or a gradient is not finite: the run stops, or the step is skipped and counted.", OneOf = ["stop", "skip"])]
    public string NonFinite { get; init; } = "stop";

    /// <summary>Whether the longest rows go through first.</summary>
    [Setting("Whether the longest rows go through the model once before training, so that a run that does not fit fails at once; left out, on a GPU.")]
    public bool? WorstBatchFirst { get; init; }
}

/// <summary>What of a layer is kept for backward, and what is computed again there (Chen et al., 2016).</summary>
public enum ActivationCheckpointing
{
    /// <summary>Everything is kept.</summary>
    None,

    /// <summary>A layer's input is kept; the layer is computed again.</summary>
    Block,

    /// <summary>
    /// A layer's input is kept and what its attention gave, which takes longest to compute for its size, the more so the longer rows are. On
    /// a GPU, whose fused attention is torch's own, every second layer is kept whole instead (as torchtune's selective checkpointing).
    /// </summary>
    Selective,
}
