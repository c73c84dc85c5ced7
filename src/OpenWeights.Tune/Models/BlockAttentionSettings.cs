using TorchSharp;

namespace OpenWeights.Tune.Models;

/// <summary>How attention scores are made.</summary>
/// <param name="Scale">What the product of query and key is multiplied by.</param>
/// <param name="Cap">The limit c of c tanh(score / c), or null.</param>
/// <param name="InverseCap">1 / c, or null.</param>
/// <param name="Nowhere">The score of a key that may not be looked at, -infinity.</param>
/// <param name="Window">How many keys a query may look back at, itself included; null for all.</param>
internal sealed record BlockAttentionSettings(Scalar Scale, Scalar? Cap, Scalar? InverseCap, Scalar Nowhere, int? Window);
