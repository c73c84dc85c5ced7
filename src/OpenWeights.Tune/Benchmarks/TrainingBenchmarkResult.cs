namespace OpenWeights.Tune.Benchmarks;

/// <summary>What a training benchmark measured.</summary>
/// <param name="TokensPerSecond">Tokens of a step over the median step's seconds.</param>
/// <param name="PeakMemoryBytes">The most physical memory that the process has held.</param>
/// <param name="PeakTensorBytes">Of it, the most that large tensors took at once, weights included; null where that is not known.</param>
/// <param name="EstimatedMemoryBytes">What was to be expected of it.</param>
/// <param name="Loss">The loss of the last step.</param>
/// <param name="StepSeconds">The median step.</param>
/// <param name="UpdateSeconds">Of it, the median of the gradients' norm and the optimizer's step.</param>
/// <param name="MatrixRate">How fast the machine multiplies matrices of the model's dtype, in floating-point operations per second.</param>
/// <param name="Utilization">
/// Useful operations per second over <paramref name="MatrixRate"/>: 6 a matrix parameter and token where it is trained, 4 where it is
/// frozen, and 12 x tokens x width a token and layer for attention; recomputation is not counted.
/// </param>
public sealed record TrainingBenchmarkResult(
    double TokensPerSecond, long PeakMemoryBytes, long? PeakTensorBytes, long EstimatedMemoryBytes, double Loss, double StepSeconds, double UpdateSeconds, double MatrixRate, double Utilization);
