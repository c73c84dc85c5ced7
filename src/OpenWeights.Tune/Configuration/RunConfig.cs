namespace OpenWeights.Tune.Configuration;

/// <summary>A run: train.yaml with every default filled in.</summary>
public sealed record RunConfig
{
    /// <summary>The seed of everything random.</summary>
    [Setting("The seed of everything random in the run.", Min = 0)]
    public long Seed { get; init; } = 42;

    /// <summary>The run's folder.</summary>
    [Setting("The folder that the run writes: config, manifest, metrics, checkpoints and the result.", Required = true, IsPath = true)]
    public string OutputDir { get; init; } = "";

    /// <summary>The base model.</summary>
    [Setting("The base model.", Required = true)]
    public ModelSection Model { get; init; } = new();

    /// <summary>The adapter; null for full fine-tuning.</summary>
    [Setting("The adapter to train; left out, all weights of the model are trained.")]
    public AdapterSection? Adapter { get; init; }

    /// <summary>Quantisation of the base; null for none.</summary>
    [Setting("Quantisation of the frozen base under an adapter; left out, it is held in model.dtype.")]
    public QuantizationSection? Quantization { get; init; }

    /// <summary>What is trained on.</summary>
    [Setting("What is trained on, and how rows are made of it.", Required = true)]
    public DataSection Data { get; init; } = new();

    /// <summary>What is minimised.</summary>
    [Setting("What is minimised.")]
    public ObjectiveSection Objective { get; init; } = new();

    /// <summary>The loop.</summary>
    [Setting("The training loop.")]
    public TrainingSection Training { get; init; } = new();

    /// <summary>Checkpoints.</summary>
    [Setting("Checkpoints to resume from.")]
    public CheckpointSection Checkpoint { get; init; } = new();

    /// <summary>Evaluation while training.</summary>
    [Setting("Evaluation while training, on data.eval.")]
    public EvaluationSection Evaluation { get; init; } = new();
}
