namespace OpenWeights.Tune.Configuration;

/// <summary>A token that is added to the tokenizer and the model; in the file also its text alone.</summary>
public sealed record NewTokenSection
{
    /// <summary>Text of the token.</summary>
    [Setting("Text of the token, such as <tool>.", Required = true)]
    public string Token { get; init; } = "";

    /// <summary>Words that describe it.</summary>
    [Setting("Words that describe the token: its rows start as the mean of theirs. Left out, as the mean of all tokens'.")]
    public string? Words { get; init; }

    /// <summary>Whether it is a special token.</summary>
    [Setting("A special token, which is left out of the text of answers.")]
    public bool Special { get; init; }
}
