namespace OpenWeights.Tune.Configuration;

/// <summary>What a run is trained on.</summary>
public sealed record DataSection
{
    /// <summary>The data sets to train on.</summary>
    [Setting("The data sets to train on.", Required = true)]
    public IReadOnlyList<DataSource> Train { get; init; } = [];

    /// <summary>The data sets to evaluate on.</summary>
    [Setting("The data sets to evaluate on, never trained on.")]
    public IReadOnlyList<DataSource> Eval { get; init; } = [];

    /// <summary>The share of the training rows that is held back.</summary>
    [Setting("The share of the training rows that is held back to evaluate on; rows that are the same stay on one side.", Min = 0, Max = 0.9)]
    public double EvalFraction { get; init; }

    /// <summary>The longest row.</summary>
    [Setting("The longest row, in tokens.", Min = 2)]
    public int MaxLength { get; init; } = 2048;

    /// <summary>What happens to longer rows.</summary>
    [Setting("What happens to a row that is longer than max_length: truncate cuts behind a whole turn where it can, split makes several rows of a plain text.", OneOf = ["error", "drop", "truncate", "split"])]
    public string OverLength { get; init; } = "error";

    /// <summary>What happens to rows that cannot be read.</summary>
    [Setting("What happens to a row that cannot be read: error stops the run, skip counts it and goes on.", OneOf = ["error", "skip"])]
    public string BadRows { get; init; } = "error";

    /// <summary>What happens to rows without a trained token.</summary>
    [Setting("What happens to a row in which nothing is trained: error stops the run, drop counts it and goes on.", OneOf = ["error", "drop"])]
    public string UntrainedRows { get; init; } = "error";

    /// <summary>Whether short rows share one.</summary>
    [Setting("Whether short rows are packed into rows of max_length, in which they do not see each other; left out, they are unless the run would have only a few steps.")]
    public bool? Packing { get; init; }

    /// <summary>Whether short rows share one, where the data changes nothing about it.</summary>
    public bool Packs => Packing ?? true;

    /// <summary>Whether rows come in random order.</summary>
    [Setting("Whether rows come in a random order, another one in each epoch.")]
    public bool Shuffle { get; init; } = true;

    /// <summary>Whether rows of like lengths come together.</summary>
    [Setting("Whether rows of like lengths come together where nothing is packed: less padding, and an order that is a little less random.")]
    public bool GroupByLength { get; init; }

    /// <summary>What is trained.</summary>
    [Setting("Which tokens are trained: the assistant's turns of a chat, the completion of a prompt (of a chat its last turn), or all.", OneOf = ["assistant", "completion", "all"])]
    public string TrainOn { get; init; } = "assistant";

    /// <summary>Values of the chat template's variables.</summary>
    [Setting("Values of the chat template's own variables, such as `{ enable_thinking: false }`. They are written into the template, which is saved with the result.")]
    public IReadOnlyDictionary<string, object?> ChatTemplateKwargs { get; init; } = new Dictionary<string, object?>();

    /// <summary>Whether token rows are kept for other runs.</summary>
    [Setting("Whether token rows are kept on the disk for other runs; auto keeps those of data sets from 8 MiB.", OneOf = ["auto", "on", "off"])]
    public string Cache { get; init; } = "auto";

    /// <summary>Where token rows are kept.</summary>
    [Setting("The folder that token rows are kept in; left out, openweights-tune in the user's cache folder.", IsPath = true)]
    public string? CacheDir { get; init; }
}
