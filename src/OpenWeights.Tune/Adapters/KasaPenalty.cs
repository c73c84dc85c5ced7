using OpenWeights.Tune.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>
/// KaSA's two penalties (Wang et al., 2024, equations 9 to 11), summed over the layers: beta times the squares of the singular values, and gamma times the
/// Frobenius norms of Bᵀ B - 1 and A Aᵀ - 1.
/// </summary>
/// <param name="settings">The settings.</param>
/// <param name="layers">The adapted layers.</param>
internal sealed class KasaPenalty(KasaSettings settings, IReadOnlyList<LoraLayer> layers) : IAdapterSchedule
{
    public Tensor? Penalty()
    {
        using var scope = NewDisposeScope();
        using Scalar beta = settings.Beta;
        using Scalar gamma = settings.Gamma;
        Tensor? sum = null;
        foreach (var layer in layers)
        {
            var own = layer.Diagonal!.square().sum().mul(beta).Plus(Departure(layer.B.t().mm(layer.B)).Plus(Departure(layer.A.mm(layer.A.t()))).mul(gamma));
            sum = sum is null ? own : sum.Plus(own.to(sum.device));
        }

        return sum?.MoveToOuterDisposeScope();
    }

    public void Stepped(long step, long steps)
    {
    }

    public IEnumerable<(string Name, Tensor Tensor)> State() => [];

    public void Restore(Func<string, Tensor?> read)
    {
    }

    public void Dispose()
    {
    }

    private static Tensor Departure(Tensor product) => product.sub(diag_embed(ones([product.size(0)], product.dtype, product.device))).norm();
}
