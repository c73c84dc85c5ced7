using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Starts;

/// <summary>EVA (Paischer et al., 2024): A is the principal components of the layer's inputs (<see cref="EvaPass"/>), B is zero.</summary>
internal static class EvaStart
{
    internal static LoraWeights Make(StartContext context)
    {
        using var scope = NewDisposeScope();
        var a = context.Findings!.Of(context.Module).to(float32).contiguous().clone();
        return new LoraWeights(scope.Detach(a), scope.Detach(zeros([context.Layer.OutFeatures, context.Rank], float32, context.Device)));
    }
}
