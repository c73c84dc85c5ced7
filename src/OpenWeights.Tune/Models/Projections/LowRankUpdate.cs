using static TorchSharp.torch;

namespace OpenWeights.Tune.Models.Projections;

/// <summary>What an adapter adds to a layer's output and nothing else: s B A x.</summary>
/// <param name="A">[rank, in], float32.</param>
/// <param name="B">[out, rank], float32.</param>
/// <param name="Scale">s.</param>
internal sealed record LowRankUpdate(Tensor A, Tensor B, float Scale);
