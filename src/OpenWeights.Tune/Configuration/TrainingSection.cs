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
    [Setting("Rows that go through the model at once.", Min = 1)]
    public int MicroBatchSize { get; init; } = 4;

    /// <summary>Micro-batches of a step.</summary>
    [Setting("Micro-batches whose gradients make one optimizer step.", Min = 1)]
    public int GradientAccumulationSteps { get; init; } = 1;

    /// <summary>The rate after warm-up.</summary>
    [Setting("The learning rate after warm-up.", Min = 0)]
    public double LearningRate { get; init; } = 2e-4;

    /// <summary>The schedule.</summary>
    [Setting("How the learning rate goes on after warm-up.", OneOf = ["constant", "linear", "cosine"])]
    public string LrScheduler { get; init; } = "cosine";

    /// <summary>Steps of warm-up.</summary>
    [Setting("Steps in which the learning rate rises from 0.", Min = 0)]
    public long WarmupSteps { get; init; } = 10;

    /// <summary>The optimizer.</summary>
    [Setting("The optimizer.", OneOf = ["adamw"])]
    public string Optimizer { get; init; } = "adamw";

    /// <summary>Weight decay.</summary>
    [Setting("Weight decay per unit of learning rate.", Min = 0)]
    public double WeightDecay { get; init; } = 0.01;

    /// <summary>Whether norms and biases decay.</summary>
    [Setting("Whether weight decay applies to norms and biases too.")]
    public bool DecayNormsAndBiases { get; init; }

    /// <summary>AdamW's betas.</summary>
    [Setting("The decay of AdamW's means of gradients and of squared gradients.", Min = 0, Max = 0.9999999)]
    public IReadOnlyList<double> Betas { get; init; } = [0.9, 0.95];

    /// <summary>AdamW's epsilon.</summary>
    [Setting("What keeps AdamW's denominator from being zero.", Min = 0)]
    public double Eps { get; init; } = 1e-8;

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
    [Setting("Whether backward computes activations again instead of keeping them: less memory, about a third more time.")]
    public bool ActivationCheckpointing { get; init; }
}
