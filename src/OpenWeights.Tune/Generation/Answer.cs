namespace OpenWeights.Tune.Generation;

/// <summary>An eval row's prompt, the answer that the row gives, and the model's.</summary>
/// <param name="Prompt">The prompt.</param>
/// <param name="Expected">The row's answer.</param>
/// <param name="Given">The model's answer.</param>
public sealed record Answer(string Prompt, string Expected, string Given)
{
    /// <summary>Whether both are the same, but for white space around them.</summary>
    public bool IsExact => Expected.Trim() == Given.Trim();
}
