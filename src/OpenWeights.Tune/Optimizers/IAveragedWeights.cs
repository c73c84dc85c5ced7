using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>Averages over the steps of training, which are evaluated and saved instead of the last weights.</summary>
internal interface IAveragedWeights
{
    /// <summary>The averaged values of a parameter, float32, on its device, in the caller's dispose scope.</summary>
    /// <param name="index">Index of the parameter.</param>
    Tensor Averaged(int index);
}
