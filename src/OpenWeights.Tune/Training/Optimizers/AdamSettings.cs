namespace OpenWeights.Tune.Training.Optimizers;

/// <summary>Adam's numbers.</summary>
/// <param name="Beta1">The decay of the mean of gradients.</param>
/// <param name="Beta2">The decay of the mean of squared gradients.</param>
/// <param name="Epsilon">What keeps the denominator from being zero.</param>
/// <param name="WeightDecay">The decay of weights per unit of learning rate.</param>
public sealed record AdamSettings(double Beta1, double Beta2, double Epsilon, double WeightDecay);
