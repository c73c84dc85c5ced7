using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Objectives;

/// <summary>
/// Fused output head and cross entropy, a few rows at a time: the logits of a chunk are replaced by their gradient in place, so
/// that at most one chunk of [rows, vocabulary] exists (as Liger Kernel's fused linear cross entropy).
/// </summary>
internal sealed class HeadCrossEntropy : CustomFunction<HeadCrossEntropy>
{
    // The scores of a chunk. Each chunk reads the whole weight, and where it is trained its gradient too; scores of float32 are twice as
    // large as those of bfloat16. A GPU multiplies some hundreds of rows in the time that it takes to read a weight.
    private const long ChunkScores = 1 << 23;
    private const long ChunkScoresOfFloat32 = 3 << 21;
    private const long ChunkScoresOfTrainedHead = 3 << 22;
    private const long ChunkScoresOnGpu = 1 << 26;

    // Elements of a weight converted to another dtype at once; and of its gradient in BLAS's buffers, which grow with a product's width.
    private const long PartElements = 1 << 21;

    // With fewer rows the head's weight would be read too often.
    private const long MinRows = 128;

    // Number of rows that the kernels process together.
    private const long RowsTogether = 16;

    /// <summary>The summed cross entropy, a float32 scalar.</summary>
    /// <param name="hidden">Hidden states, [rows, hidden].</param>
    /// <param name="weight">Weight of the head, [vocabulary, hidden].</param>
    /// <param name="targets">Target ids, [rows], int64.</param>
    /// <param name="multiplier">Factor of the logits.</param>
    /// <param name="softCap">Soft cap c in c tanh(x / c), applied after the factor; null for none.</param>
    internal static Tensor Sum(Tensor hidden, Tensor weight, Tensor targets, double multiplier = 1, double? softCap = null) =>
        Record(hidden, weight, targets, (multiplier, softCap))[0];

    /// <summary>Maximum number of rows of logits computed at once.</summary>
    /// <param name="weight">Weight of the head, [vocabulary, hidden].</param>
    internal static long RowsOfChunk(Tensor weight)
    {
        var scores = weight.device.type != DeviceType.CPU ? ChunkScoresOnGpu
            : ProductPrecision.Of(weight, MinRows) == float32 ? ChunkScoresOfFloat32
            : weight.requires_grad ? ChunkScoresOfTrainedHead : ChunkScores;
        return Math.Max(MinRows, scores / weight.size(0));
    }

    /// <summary>Splits rows into chunks as equal as whole vectors allow, of at most the maximum size.</summary>
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

        // Sums over chunks are float32 for every dtype of the weight.
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
                slope.Dispose();
            }

            gradScores = gradScores.to(dtype);
            AddHiddenGradient(gradHidden?.narrow(0, start, count), gradScores, weight, dtype);
            AddWeightGradient(gradWeight, gradScores, states);
        }

        context.save_for_backward([gradHidden!, gradWeight?.to(weight.dtype)!]);
        return [loss];
    }

    // The gradients were computed in forward. They are scaled in place to avoid copies: this graph can be used for backward only once.
    protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients)
    {
        using var factor = gradients[0].to(float32);
        return [.. context.get_saved_variables().Select(saved => saved?.mul_(factor)), null, null];
    }

    // hidden x weightᵀ in float32. A weight in another dtype is converted a part at a time.
    private static Tensor Scores(Tensor states, Tensor weight, ScalarType dtype)
    {
        if (weight.dtype == dtype)
        {
            using var product = nn.functional.linear(states, weight);
            return product.to(float32);
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

    // The summed loss of some rows of logits, float32; the logits are replaced by their gradient, softmax - onehot. In the caller's dispose
    // scope.
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

    // Scales and caps logits in place, and returns the derivative: m (1 - tanh²) for c tanh(m x / c). Null if nothing is done.
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
