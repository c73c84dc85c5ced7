namespace OpenWeights.Tune.Training.Optimizers;

/// <summary>What an optimizer holds, and where.</summary>
/// <param name="LowPrecision">How parameters of lower precision than float32 are kept.</param>
/// <param name="OnCpu">Whether state and master copies stay in the CPU's memory, and steps are taken there (ZeRO-Offload; Ren et al., 2021).</param>
public readonly record struct OptimizerMemory(LowPrecision LowPrecision, bool OnCpu);
