using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Starts;

/// <summary>
/// A from the odd and B from the even rows of a random orthogonal matrix, [rank, rank], each times random numbers / 10, so that B A = 0 although
/// neither is zero.
/// </summary>
internal static class OrthogonalStart
{
    internal static LoraWeights Make(StartContext context)
    {
        using var scope = NewDisposeScope();
        Tensor Random(long rows, long columns) => empty([rows, columns], float32).normal_(0, 1, context.Generator!);
        var half = context.Rank / 2;
        var pairs = linalg.qr(Random(context.Rank, context.Rank)).Q.view(half, 2, context.Rank);
        using Scalar tenth = 0.1;
        var a = Random(context.Layer.InFeatures, half).mm(pairs.select(1, 0)).t().mul(tenth);
        var b = Random(half, context.Layer.OutFeatures).t().mm(pairs.select(1, 1)).mul(tenth);
        return new LoraWeights(scope.Detach(a.contiguous().to(context.Device)), scope.Detach(b.contiguous().to(context.Device)));
    }
}
