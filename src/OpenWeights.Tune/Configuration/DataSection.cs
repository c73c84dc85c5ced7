namespace OpenWeights.Tune.Configuration;

/// <summary>The data section: data sets and how rows are made from them.</summary>
public sealed record DataSection
{
    /// <summary>Training data sets.</summary>
    [Setting("Training data sets.", Required = true)]
    public IReadOnlyList<DataSource> Train { get; init; } = [];

    /// <summary>Evaluation data sets.</summary>
    [Setting("Evaluation data sets; never trained on.")]
    public IReadOnlyList<DataSource> Eval { get; init; } = [];

    /// <summary>Fraction of the training rows held out for evaluation.</summary>
    [Setting("Fraction of the training rows held out for evaluation; identical rows stay in the same split.", Min = 0, Max = 0.9)]
    public double EvalFraction { get; init; }

    /// <summary>Maximum row length in tokens.</summary>
    [Setting("Maximum row length, in tokens.", Min = 2)]
    public int MaxLength { get; init; } = 2048;

    /// <summary>What to do with rows longer than max_length.</summary>
    [Setting("What to do with a row longer than max_length: error stops the run; drop skips the row and counts it; truncate cuts it, after a complete turn if possible; split divides a plain-text row into several.", OneOf = ["error", "drop", "truncate", "split"])]
    public string OverLength { get; init; } = "error";

    /// <summary>What to do with rows that cannot be read.</summary>
    [Setting("What to do with a row that cannot be read: error stops the run; skip counts it and continues.", OneOf = ["error", "skip"])]
    public string BadRows { get; init; } = "error";

    /// <summary>What to do with rows without trained tokens.</summary>
    [Setting("What to do with a row without trained tokens: error stops the run; drop counts it and continues.", OneOf = ["error", "drop"])]
    public string UntrainedRows { get; init; } = "error";

    /// <summary>Whether rows are packed.</summary>
    [Setting("Pack short rows into rows of max_length tokens; packed rows do not attend to each other. By default on, unless the run would have only a few steps.")]
    public bool? Packing { get; init; }

    /// <summary>Whether rows are packed, before the number of steps is considered.</summary>
    internal bool Packs => Packing ?? true;

    /// <summary>Whether rows are shuffled.</summary>
    [Setting("Shuffle the rows, in a new order each epoch.")]
    public bool Shuffle { get; init; } = true;

    /// <summary>Whether rows of similar length are batched together.</summary>
    [Setting("Batch rows of similar length together when they are not packed: less padding, slightly less random order.")]
    public bool GroupByLength { get; init; }

    /// <summary>Which tokens are trained.</summary>
    [Setting("Which tokens are trained: assistant (the assistant's turns of a chat, with reasoning between tags such as <think>, without gpt-oss's analysis channel), final (its turns without any reasoning), reasoning (its turns with all reasoning), completion (the completion of a prompt; of a chat its last turn), or all.", OneOf = ["assistant", "final", "reasoning", "completion", "all"])]
    public string TrainOn { get; init; } = "assistant";

    /// <summary>Variables for the chat template.</summary>
    [Setting("Variables for the chat template, such as `{ enable_thinking: false }`. They are written into the template saved with the result.")]
    public IReadOnlyDictionary<string, object?> ChatTemplateKwargs { get; init; } = new Dictionary<string, object?>();

    /// <summary>Whether tokenized rows are cached for later runs.</summary>
    [Setting("Cache tokenized rows on disk for later runs; auto caches data sets of 8 MiB and more.", OneOf = ["auto", "on", "off"])]
    public string Cache { get; init; } = "auto";

    /// <summary>Folder of the token cache.</summary>
    [Setting("Folder of the token cache; by default openweights-tune in the user's cache folder.", IsPath = true)]
    public string? CacheDir { get; init; }
}
