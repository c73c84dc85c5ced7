namespace OpenWeights.Tune.Models;

/// <summary>How root mean square norms compute.</summary>
/// <param name="Epsilon">What is added to the mean square.</param>
/// <param name="AddsOne">Whether the scale is the weight plus one.</param>
/// <param name="ScalesBeforeRounding">Whether the scale is applied in float32, before the result gets the model's dtype.</param>
internal sealed record NormSettings(double Epsilon, bool AddsOne, bool ScalesBeforeRounding);
