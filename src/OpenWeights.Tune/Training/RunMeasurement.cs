namespace OpenWeights.Tune.Training;

/// <summary>What a run was found to take, measured on its longest rows.</summary>
/// <param name="PeakBytes">The most memory that was held: of the process on a CPU, of the GPU on one.</param>
/// <param name="SecondsPerStep">How long a step of rows of the usual length takes.</param>
/// <param name="RunSeconds">How long all steps take, without evaluations and checkpoints.</param>
public sealed record RunMeasurement(long PeakBytes, double SecondsPerStep, double RunSeconds);
