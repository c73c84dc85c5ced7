namespace OpenWeights.Tune.Data.Tokens;

/// <summary>Names in the JSON of <see cref="TokenRow.Fields"/>.</summary>
internal static class RowFieldNames
{
    /// <summary>A prompt: its text.</summary>
    public const string Prompt = "prompt";

    /// <summary>A prompt: the reference answer; null if the row has none.</summary>
    public const string Answer = "answer";

    /// <summary>A prompt: the whole row, as in the file.</summary>
    public const string Row = "row";

    /// <summary>A sample: which rows are one prompt's answers.</summary>
    public const string Group = "group";

    /// <summary>A sample: log-probabilities of its tokens by the policy that sampled it.</summary>
    public const string LogProbs = "logprobs";

    /// <summary>A sample: its rewards by name; null where one was not judged.</summary>
    public const string Rewards = "rewards";
}
