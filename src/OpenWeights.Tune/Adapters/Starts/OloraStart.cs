using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Starts;

/// <summary>OLoRA (Büyükakyüz, 2024): B is the first columns of Q and A the first rows of R, where Q R is the weight.</summary>
internal static class OloraStart
{
    internal static LoraWeights Make(StartContext context)
    {
        using var scope = NewDisposeScope();
        var (q, r) = linalg.qr(context.Weight);
        return LoraStarts.Subtracted(r.narrow(0, 0, context.Rank), q.narrow(1, 0, context.Rank));
    }
}
