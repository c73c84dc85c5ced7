namespace OpenWeights.Tune.Configuration;

/// <summary>The config of a run: train.yaml with all defaults filled in.</summary>
public sealed record RunConfig
{
    /// <summary>Random seed.</summary>
    [Setting("Random seed of the run.", Min = 0)]
    public long Seed { get; init; } = 42;

    /// <summary>Output folder of the run.</summary>
    [Setting("Output folder of the run, for config, manifest, metrics, checkpoints and the result.", Required = true, IsPath = true)]
    public string OutputDir { get; init; } = "";

    /// <summary>The base model.</summary>
    [Setting("The base model.", Required = true)]
    public ModelSection Model { get; init; } = new();

    /// <summary>The adapter; null for full fine-tuning.</summary>
    [Setting("The adapter to train; without this section all weights of the model are trained.")]
    public AdapterSection? Adapter { get; init; }

    /// <summary>Quantization of the base model; null for none.</summary>
    [Setting("Quantization of the frozen base model under an adapter; without this section it is kept in model.dtype.")]
    public QuantizationSection? Quantization { get; init; }

    /// <summary>Data sets and how rows are made from them.</summary>
    [Setting("The data sets, and how rows are made from them.", Required = true)]
    public DataSection Data { get; init; } = new();

    /// <summary>The training objective.</summary>
    [Setting("What is minimised.")]
    public ObjectiveSection Objective { get; init; } = new();

    /// <summary>The training loop.</summary>
    [Setting("The training loop.")]
    public TrainingSection Training { get; init; } = new();

    /// <summary>Checkpoints.</summary>
    [Setting("Checkpoints for resuming.")]
    public CheckpointSection Checkpoint { get; init; } = new();

    /// <summary>Evaluation during training.</summary>
    [Setting("Evaluation during training, on data.eval.")]
    public EvaluationSection Evaluation { get; init; } = new();

    /// <summary>What several ranks share out.</summary>
    [Setting("What several ranks share out among themselves.")]
    public ParallelSection Parallel { get; init; } = new();

    /// <summary>Recording by an MLflow server; null for none.</summary>
    [Setting("Record the run by an MLflow server too; without this section it is recorded in its folder only.")]
    public MlflowSection? Mlflow { get; init; }

    /// <summary>Reads and checks a YAML file, as <c>owt train</c> does: <c>RunConfig.Load("train.yaml", "training.max_steps=100")</c>.</summary>
    /// <param name="file">The file.</param>
    /// <param name="overrides">Settings that take the place of the file's, such as training.max_steps=100.</param>
    /// <exception cref="ConfigException">The config is invalid; the exception lists all problems.</exception>
    public static RunConfig Load(string file, params IReadOnlyList<string> overrides) => RunConfigFile.Read(file, overrides);

    /// <summary>What is wrong with the settings, in the words of <c>owt validate</c>; nothing if a run can be prepared with them.</summary>
    public IReadOnlyList<ConfigProblem> Problems() => SettingCheck.Problems(this);
}
