using TorchSharp.Modules;

namespace OpenWeights.Tune.Training.Optimizers;

/// <summary>A parameter that is trained.</summary>
/// <param name="Name">Its name in checkpoints.</param>
/// <param name="Parameter">The parameter.</param>
/// <param name="Decays">Whether weight decay applies to it.</param>
/// <param name="RateFactor">What its learning rate is multiplied by (LoRA+).</param>
public sealed record TrainedParameter(string Name, Parameter Parameter, bool Decays, double RateFactor = 1);
