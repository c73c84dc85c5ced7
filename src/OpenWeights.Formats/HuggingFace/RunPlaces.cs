namespace OpenWeights.Formats.HuggingFace;

/// <summary>
/// Where a training run's folder holds what it made: <c>adapter</c> or <c>model</c> at its end, and <c>weights</c> in each of its
/// <c>checkpoints</c>.
/// </summary>
internal static class RunPlaces
{
    /// <summary>The folders that a path may mean, the likeliest first: itself, a run's result, a checkpoint's weights, the newest checkpoint's.</summary>
    /// <param name="path">The path.</param>
    /// <param name="result">Name of the result's folder.</param>
    internal static IEnumerable<string> Of(string path, string result)
    {
        yield return path;
        yield return Path.Combine(path, result);
        yield return Path.Combine(path, "weights");
        foreach (var checkpoints in new[] { Path.Combine(path, "checkpoints"), path }.Where(Directory.Exists))
        {
            foreach (var step in Directory.EnumerateDirectories(checkpoints, "step-*").OrderDescending(StringComparer.Ordinal))
            {
                yield return Path.Combine(step, "weights");
            }
        }
    }
}
