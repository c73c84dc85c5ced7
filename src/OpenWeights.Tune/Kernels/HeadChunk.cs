using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>Some rows that go through the head, and where their gradients go.</summary>
/// <param name="Hidden">[rows, hidden], float32 or bfloat16, in one piece.</param>
/// <param name="Weight">[vocabulary, hidden], of the same dtype, in one piece.</param>
/// <param name="Targets">[rows], int64, in one piece.</param>
/// <param name="Multiplier">What logits are multiplied by.</param>
/// <param name="SoftCap">What they are then kept within, by c tanh(x / c); null for no limit.</param>
/// <param name="GradHidden">[rows, hidden], which is written to; null where it is not wanted.</param>
/// <param name="GradWeight">[vocabulary, hidden], float32; null where it is not wanted.</param>
/// <param name="IsFirst">Whether the weight's gradient is written to, or added to.</param>
internal readonly record struct HeadChunk(Tensor Hidden, Tensor Weight, Tensor Targets, float Multiplier, float? SoftCap, Tensor? GradHidden, Tensor? GradWeight, bool IsFirst);
