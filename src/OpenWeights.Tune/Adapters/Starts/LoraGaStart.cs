using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Starts;

/// <summary>
/// LoRA-GA (Wang et al., 2024): A and B from the first 2 r singular vectors of the weight's gradient, so that the first step of the update goes where
/// that of the weight would go.
/// </summary>
internal static class LoraGaStart
{
    private const int Iterations = 4;

    internal static LoraWeights Make(StartContext context)
    {
        using var scope = NewDisposeScope();
        var (rank, settings) = (context.Rank, context.Config.LoraGa);
        var gradient = context.Findings!.Of(context.Module).to(float32);
        var (u, s, v) = LowRankSvd.Of(gradient, Math.Min(4L * rank, context.SingularValues), Iterations, context.Generator!);
        var (ofA, ofB) = Chosen(settings.Direction, rank, context);
        var (a, values) = (v.t().index_select(0, ofA), s.index_select(0, ofB));
        var b = u.index_select(1, ofB).mul(values);
        using Scalar factor = settings.Scale switch
        {
            "stable" => Math.Pow(context.Layer.OutFeatures, 0.25) / Math.Sqrt(settings.StableGamma),
            "weight_svd" => Largest(context) / Math.Max(values[0].ToDouble(), double.Epsilon),
            "gd_scale" => 1 / context.Scale,
            _ => 1.0,
        };
        return LoraStarts.Subtracted(settings.Scale == "gd_scale" ? a.mul(factor) : a, b.mul(factor));
    }

    // Which singular vectors A and B take.
    private static (Tensor OfA, Tensor OfB) Chosen(string direction, int rank, StartContext context)
    {
        Tensor Indices(Func<int, long> of) => tensor([.. Enumerable.Range(0, rank).Select(of)], [rank]).to(context.Device);
        if (direction != "random")
        {
            return direction switch
            {
                "ArBr" => (Indices(static i => (2 * i) + 1), Indices(static i => 2 * i)),
                "A2rBr" => (Indices(i => rank + i), Indices(static i => i)),
                _ => (Indices(static i => i), Indices(i => rank + i)),
            };
        }

        var keys = empty([2L * rank], float64).uniform_(0, 1, context.Generator!);
        var drawn = keys.topk(rank).indexes.to(context.Device);
        return (drawn, drawn);
    }

    private static double Largest(StartContext context) => LowRankSvd.Of(context.Weight, context.Rank, Iterations, context.Generator!).S[0].ToDouble();
}
