using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Starts;

/// <summary>Minor component adaptation: B is the left singular vectors of the weight's smallest singular values, and stays so; A is zero.</summary>
internal static class MicaStart
{
    internal static LoraWeights Make(StartContext context)
    {
        using var scope = NewDisposeScope();
        var u = linalg.svd(context.Weight, fullMatrices: false).U;
        var b = u.narrow(1, context.SingularValues - context.Rank, context.Rank).clone();
        return new LoraWeights(scope.Detach(zeros([context.Rank, context.Layer.InFeatures], float32, context.Device)), scope.Detach(b)) { TrainsB = false };
    }
}
