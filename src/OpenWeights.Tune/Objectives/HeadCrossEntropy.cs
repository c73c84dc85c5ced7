using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Objectives;

/// <summary>
/// Output head and cross entropy in one, a few rows at a time: the scores of a chunk are turned into their gradient where they lie, so
/// that never more than a chunk of [rows, vocabulary] exists (the idea of Liger Kernel's fused linear cross entropy).
/// </summary>
internal sealed class HeadCrossEntropy : CustomFunction<HeadCrossEntropy>
{
    // The scores of a chunk. Each chunk reads the whole weight, and where it is trained its gradient too; scores of float32 are twice as
    // large as those of bfloat16. A GPU multiplies some hundreds of rows in the time that it takes to read a weight.
    private const long ChunkScores = 1 << 23;
    private const long ChunkScoresOfFloat32 = 3 << 21;
    private const long ChunkScoresOfTrainedHead = 3 << 22;
    private const long ChunkScoresOnGpu = 1 << 26;

    // How much of a weight is there in another dtype at once; and of its gradient in BLAS's own memory, which grows with a product's width.
    private const long PartElements = 1 << 21;

    // Fewer rows would read the head's weight too often for what is computed with it.
    private const long MinRows = 128;

    // Rows that kernels take side by side.
    private const long RowsTogether = 16;

    /// <summary>The summed cross entropy, a float32 scalar.</summary>
    /// <param name="hidden">[rows, hidden].</param>
    /// <param name="weight">The head's weight, [vocabulary, hidden].</param>
    /// <param name="targets">[rows], int64.</param>
    /// <param name="multiplier">What logits are multiplied by.</param>
    /// <param name="softCap">What they are then kept within, by c tanh(x / c); null for no limit.</param>
    internal static Tensor Sum(Tensor hidden, Tensor weight, Tensor targets, double multiplier = 1, double? softCap = null) =>
        Record(hidden, weight, targets, (multiplier, softCap))[0];

    /// <summary>How many rows of scores are there at once, at most.</summary>
    /// <param name="weight">The head's weight, [vocabulary, hidden].</param>
    internal static long RowsOfChunk(Tensor weight)
    {
        var scores = weight.device.type != DeviceType.CPU ? ChunkScoresOnGpu
            : ProductPrecision.Of(weight, MinRows) == float32 ? ChunkScoresOfFloat32
            : weight.requires_grad ? ChunkScoresOfTrainedHead : ChunkScores;
        return Math.Max(MinRows, scores / weight.size(0));
    }

    /// <summary>The rows of chunks that are as equal as whole vectors allow, none larger than the most.</summary>
    internal static long EvenChunk(long rows, long most)
    {
        var chunks = Math.Max(1, (rows + most - 1) / most);
        var even = Math.Max(1, (rows + chunks - 1) / chunks);
        var whole = (even + RowsTogether - 1) / RowsTogether * RowsTogether;
        return whole <= most ? whole : even;
    }

    protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
    {
        var (hidden, weight, targets) = ((Tensor)inputs[0], (Tensor)inputs[1], (Tensor)inputs[2]);
        var (multiplier, softCap) = ((double, double?))inputs[3];
        var rows = hidden.size(0);
        var chunk = EvenChunk(rows, RowsOfChunk(weight));
        var loss = zeros([], float32, hidden.device);
        var gradHidden = hidden.requires_grad ? hidden.empty_like() : null;

        // Several chunks add up in float32 whatever the weight's dtype.
        var gradWeight = weight.requires_grad ? weight.zeros_like(float32) : null;
        var dtype = ProductPrecision.Of(hidden, rows);
        for (long start = 0; start < rows; start += chunk)
        {
            using var inner = NewDisposeScope();
            var count = Math.Min(chunk, rows - start);
            var states = hidden.narrow(0, start, count).to(dtype);
            var scores = Scores(states, weight, dtype);
            var slope = Shape(scores, multiplier, softCap);
            var (sum, gradScores) = Losses(scores, targets.narrow(0, start, count), gradHidden is not null || gradWeight is not null);
            _ = loss.PlusInPlace(sum);
            if (gradScores is null)
            {
                continue;
            }

            if (slope is not null)
            {
                gradScores = gradScores.mul_(slope);
            }

            gradScores = gradScores.to(dtype);
            AddHiddenGradient(gradHidden?.narrow(0, start, count), gradScores, weight, dtype);
            AddWeightGradient(gradWeight, gradScores, states);
        }

        context.save_for_backward([gradHidden!, gradWeight?.to(weight.dtype)!]);
        return [loss];
    }

    // The gradients are ready since forward. They are scaled where they lie, so that nothing is held twice: this graph goes backward once.
    protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients)
    {
        using var factor = gradients[0].to(float32);
        return [.. context.get_saved_variables().Select(saved => saved?.mul_(factor)), null, null];
    }

    // hidden x weightᵀ in float32. A weight of another dtype than what is computed in is turned into it a part at a time.
    private static Tensor Scores(Tensor states, Tensor weight, ScalarType dtype)
    {
        if (weight.dtype == dtype)
        {
            return nn.functional.linear(states, weight).to(float32);
        }

        var scores = empty([states.size(0), weight.size(0)], dtype, states.device);
        foreach (var (start, count) in Parts(weight))
        {
            using var scope = NewDisposeScope();
            _ = scores.narrow(1, start, count).addmm_(states, weight.narrow(0, start, count).to(dtype).t(), beta: 0);
        }

        return scores;
    }

    private static void AddWeightGradient(Tensor? target, Tensor gradScores, Tensor states)
    {
        if (target is null)
        {
            return;
        }

        foreach (var (start, count) in target.device.type == DeviceType.CPU ? Parts(target) : [(0, target.size(0))])
        {
            using var scope = NewDisposeScope();
            var (part, scores) = (target.narrow(0, start, count), gradScores.narrow(1, start, count).t());
            _ = states.dtype == float32 ? part.addmm_(scores, states) : part.PlusInPlace(scores.mm(states));
        }
    }

    private static void AddHiddenGradient(Tensor? target, Tensor gradScores, Tensor weight, ScalarType dtype)
    {
        if (target is null)
        {
            return;
        }

        using var scope = NewDisposeScope();
        if (weight.dtype == dtype)
        {
            _ = target.addmm_(gradScores, weight, beta: 0);
            return;
        }

        var sum = zeros(target.shape, dtype, target.device);
        foreach (var (start, count) in Parts(weight))
        {
            using var inner = NewDisposeScope();
            _ = sum.addmm_(gradScores.narrow(1, start, count), weight.narrow(0, start, count).to(dtype));
        }

        _ = target.copy_(sum);
    }

    private static IEnumerable<(long Start, long Count)> Parts(Tensor weight)
    {
        var (rows, most) = (weight.size(0), Math.Max(1, PartElements / weight.size(1)));
        for (long start = 0; start < rows; start += most)
        {
            yield return (start, Math.Min(most, rows - start));
        }
    }

    // The summed loss of some rows of scores, float32, and the scores' gradient where they lie: softmax - onehot. In the caller's dispose scope.
    private static (Tensor Sum, Tensor? Gradient) Losses(Tensor scores, Tensor targets, bool wantsGradient)
    {
        if (CpuKernel.Serves(scores))
        {
            using Scalar loss = SoftmaxKernel.CrossEntropy(scores, targets, wantsGradient);
            return (full([], loss, float32, scores.device), wantsGradient ? scores : null);
        }

        using var scope = NewDisposeScope();
        var wanted = targets.unsqueeze(1);
        var normalizer = scores.logsumexp(1, keepdim: true);
        var sum = normalizer.sub(scores.gather(1, wanted)).sum().MoveToOuterDisposeScope();
        if (!wantsGradient)
        {
            return (sum, null);
        }

        _ = scores.sub_(normalizer).exp_().scatter_add_(1, wanted, ones([scores.size(0), 1], float32, scores.device).neg_());
        return (sum, scores);
    }

    // Scales and limits scores where they lie, and gives the slope of that: c tanh(m x / c) has m (1 - tanh²). Null where nothing is done.
    private static Tensor? Shape(Tensor scores, double multiplier, double? softCap)
    {
        using Scalar factor = multiplier;
        if (softCap is not { } limit)
        {
            return multiplier == 1 ? null : full([1], factor, float32, scores.mul_(factor).device);
        }

        using Scalar inner = multiplier / limit;
        using Scalar cap = limit;
        _ = scores.mul_(inner).tanh_();
        var slope = scores.mul(scores).neg_().add_(Scalars.One, Scalars.One).mul_(factor);
        _ = scores.mul_(cap);
        return slope;
    }
}
