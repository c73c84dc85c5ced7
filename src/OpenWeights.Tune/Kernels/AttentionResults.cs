namespace OpenWeights.Tune.Kernels;

/// <summary>Where attention's results go: mixed values, or in backward gradients.</summary>
/// <param name="Queries">The mixed values, or the gradient of the queries.</param>
/// <param name="Keys">The gradient of the keys; of parts of the queries one behind the other along the batch.</param>
/// <param name="Values">The gradient of the values, like that of the keys.</param>
/// <param name="Given">The gradient of the mixed values.</param>
internal readonly record struct AttentionResults(HeadStates Queries, HeadStates Keys, HeadStates Values, HeadStates Given);
