using OpenWeights.Tune.Training;

namespace OpenWeights.Tune;

/// <summary>Tells of each step, and keeps warnings.</summary>
/// <param name="progress">Is told of each step; null for nobody.</param>
internal sealed class ProgressListener(IProgress<StepMetrics>? progress) : IRunListener
{
    private readonly List<string> _warnings = [];

    /// <summary>The warnings.</summary>
    internal IReadOnlyList<string> Warnings => _warnings;

    /// <inheritdoc/>
    public void Warn(string message) => _warnings.Add(message);

    /// <inheritdoc/>
    public void Stepped(StepMetrics metrics, long totalSteps) => progress?.Report(metrics);
}
