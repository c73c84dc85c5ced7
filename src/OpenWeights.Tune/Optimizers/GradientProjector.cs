using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>
/// Projects the gradients of matrices to a low rank, from the side that the projection's type names; GaLore (Zhao et al., 2024) and APOLLO
/// (Zhu et al., 2024) keep their moments of the projected gradients. Stacks of matrices are projected one by one.
/// </summary>
internal sealed class GradientProjector
{
    // Random numbers that a new seed is drawn after, as in APOLLO's own code.
    private const int SeedAdvance = 15;

    private readonly ProjectionSettings _settings;
    private readonly HashSet<ParameterSlot> _ready = [];
    private readonly Dictionary<ParameterSlot, long> _seeds = [];

    internal GradientProjector(ProjectionSettings settings) => _settings = settings;

    private enum Side
    {
        Left,
        Right,
        Both,
    }

    /// <summary>Shapes of the state: two moments of the projected gradient, and the projection.</summary>
    internal static StateShape[] States(TrainedParameter trained, ProjectionSettings settings)
    {
        var shape = trained.Parameter.shape;
        long[] stack = shape[..^2];
        var (rows, columns) = (shape[^2], shape[^1]);
        var rank = Math.Min(settings.Rank, Math.Min(rows, columns));
        long[] low = Of(settings.Type, rows, columns) switch
        {
            Side.Right => [.. stack, rows, rank],
            Side.Left => [.. stack, rank, columns],
            _ => [.. stack, rank, rank],
        };
        StateShape[] moments = [new("exp_avg", low), new("exp_avg_sq", low) { IsSquare = true }];
        return Of(settings.Type, rows, columns) switch
        {
            Side.Right => [.. moments, new("projector", [.. stack, rank, columns])],
            Side.Left => [.. moments, new("projector", [.. stack, rows, rank])],
            _ => [.. moments, new("projector_left", [.. stack, rows, rank]), new("projector_right", [.. stack, rank, columns])],
        };
    }

    /// <summary>Whether a matrix is multiplied from the right, so that its rows keep their number.</summary>
    internal bool KeepsRows(Tensor matrix) => Of(_settings.Type, matrix.size(-2), matrix.size(-1)) == Side.Right;

    /// <summary>The projected gradient. Every so many steps the projection is made again.</summary>
    /// <param name="slot">The parameter, with its projection as the third state (and the fourth for both sides).</param>
    /// <param name="gradient">The gradient, [rows, columns].</param>
    /// <param name="step">Number of the step, from 1.</param>
    internal Tensor Project(ParameterSlot slot, Tensor gradient, long step)
    {
        // A projection that was restored is there already; one of a parameter without gradient so far is not.
        if ((step - 1) % _settings.Gap == 0 || !(_ready.Contains(slot) || slot[2].any().ToBoolean()))
        {
            Make(slot, gradient, step);
        }

        _ = _ready.Add(slot);
        return Of(_settings.Type, gradient.size(-2), gradient.size(-1)) switch
        {
            Side.Right => gradient.matmul(slot[2].transpose(-2, -1)),
            Side.Left => slot[2].transpose(-2, -1).matmul(gradient),
            _ => slot[2].transpose(-2, -1).matmul(gradient).matmul(slot[3].transpose(-2, -1)),
        };
    }

    /// <summary>A projected matrix in the full space.</summary>
    internal Tensor Back(ParameterSlot slot, Tensor low) => Of(_settings.Type, slot.Trained.Parameter.size(-2), slot.Trained.Parameter.size(-1)) switch
    {
        Side.Right => low.matmul(slot[2]),
        Side.Left => slot[2].matmul(low),
        _ => slot[2].matmul(low).matmul(slot[3]),
    };

    private static Side Of(string type, long rows, long columns) => type switch
    {
        "left" => Side.Left,
        "right" => Side.Right,
        "full" => Side.Both,
        "reverse_std" => rows >= columns ? Side.Left : Side.Right,
        _ => rows >= columns ? Side.Right : Side.Left,
    };

    private void Make(ParameterSlot slot, Tensor gradient, long step)
    {
        using var scope = NewDisposeScope();
        if (_settings.Seeds is { } seeds)
        {
            using Scalar size = 1 / Math.Sqrt(_settings.Rank);
            var shape = slot[2].shape;
            using var generator = new Generator((ulong)Seed(slot, seeds(slot.Index), step), CPU);
            _ = slot[2].copy_(randn(shape, float32, CPU, generator: generator).mul_(size));
            return;
        }

        var side = Of(_settings.Type, gradient.size(-2), gradient.size(-1));
        var (u, _, vh) = linalg.svd(gradient, fullMatrices: false);
        if (side != Side.Right)
        {
            _ = slot[2].copy_(u.narrow(-1, 0, slot[2].size(-1)));
        }

        if (side != Side.Left)
        {
            var right = slot[side == Side.Both ? 3 : 2];
            _ = right.copy_(vh.narrow(-2, 0, right.size(-2)));
        }
    }

    // The first projection is drawn from the parameter's seed, each later one from a seed drawn from the seed before.
    private long Seed(ParameterSlot slot, long first, long step)
    {
        var seed = _seeds.TryGetValue(slot, out var next) ? next : first;
        if (!_seeds.ContainsKey(slot))
        {
            for (var drawn = 0L; drawn < (step - 1) / _settings.Gap; drawn++)
            {
                seed = After(seed);
            }
        }

        _seeds[slot] = After(seed);
        return seed;
    }

    private static long After(long seed)
    {
        using var scope = NewDisposeScope();
        using var generator = new Generator((ulong)seed, CPU);
        return randint(0, long.MaxValue, [SeedAdvance], int64, CPU, generator: generator).narrow(0, SeedAdvance - 1, 1).ToInt64();
    }
}

/// <summary>How gradients are projected to a low rank.</summary>
/// <param name="Rank">The rank.</param>
/// <param name="Gap">Steps after which the projection is made again.</param>
/// <param name="Scale">Factor of the update: of the projected one in GaLore, the square of the factor in APOLLO.</param>
/// <param name="Type">Side of the projection: std (the smaller side), reverse_std, left, right or full (both sides).</param>
internal sealed record ProjectionSettings(int Rank, long Gap, double Scale, string Type)
{
    /// <summary>Seed of a parameter's random projection, by its index; null for singular vectors of the gradient.</summary>
    public Func<int, long>? Seeds { get; init; }
}
