using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Objectives;

/// <summary>
/// <see cref="HeadCrossEntropy"/> with label smoothing (Szegedy et al., 2016, as PyTorch's cross_entropy: a fraction of each target is
/// spread over the vocabulary) and z-loss (Chowdhery et al., 2022: the squared log of the softmax denominator).
/// </summary>
internal sealed class RegularizedHeadLoss : CustomFunction<RegularizedHeadLoss>
{
    private const long ChunkScores = 1 << 24;

    // Products over a larger vocabulary are summed in blocks: MKL adds the terms of a product with at most eight rows or columns
    // sequentially, which over half a million terms has a relative error of 1e-4.
    private const long BlockWords = 1 << 15;

    /// <summary>The summed loss, a float32 scalar.</summary>
    /// <param name="hidden">Hidden states, [rows, hidden].</param>
    /// <param name="weight">Weight of the head, [vocabulary, hidden].</param>
    /// <param name="targets">Target ids, [rows], int64.</param>
    /// <param name="smoothing">Label smoothing: fraction of a target that is spread over the vocabulary.</param>
    /// <param name="zLoss">Weight of the z-loss.</param>
    internal static Tensor Sum(Tensor hidden, Tensor weight, Tensor targets, double smoothing, double zLoss) =>
        Record(hidden, weight, targets, smoothing, zLoss)[0];

    protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
    {
        var (hidden, weight, targets) = ((Tensor)inputs[0], (Tensor)inputs[1], (Tensor)inputs[2]);
        var (smoothing, zLoss) = ((double)inputs[3], (double)inputs[4]);
        using Scalar certain = 1 - smoothing;
        using Scalar spread = -smoothing / weight.size(0);
        using Scalar share = smoothing / weight.size(0);
        using Scalar z = zLoss;
        using Scalar slope = 2 * zLoss;
        var (rows, chunk) = (hidden.size(0), Math.Max(16, ChunkScores / weight.size(0)));
        var loss = zeros([], float32, hidden.device);
        var gradHidden = hidden.requires_grad ? hidden.empty_like() : null;
        var gradWeight = weight.requires_grad ? weight.zeros_like(float32) : null;
        for (long start = 0; start < rows; start += chunk)
        {
            using var inner = NewDisposeScope();
            var count = Math.Min(chunk, rows - start);
            var states = hidden.narrow(0, start, count);
            var wanted = targets.narrow(0, start, count).unsqueeze(1);
            var scores = nn.functional.linear(states, weight).to(float32);
            var normalizer = scores.logsumexp(1, keepdim: true);

            // lse - (1 - e) logit of the target - e x mean of logits + z lse²
            _ = loss.PlusInPlace(normalizer.sub(scores.gather(1, wanted).mul(certain)).sum()).PlusInPlace(scores.sum().mul(spread)).PlusInPlace(normalizer.square().sum().mul(z));
            if (gradHidden is null && gradWeight is null)
            {
                continue;
            }

            // d loss / d logits = softmax (1 + 2 z lse) - (1 - e) onehot - e / vocabulary
            var gradScores = scores.sub_(normalizer).exp_().mul_(normalizer.mul(slope).add_(Scalars.One, Scalars.One)).sub_(share);
            _ = gradScores.scatter_add_(1, wanted, ones([count, 1], float32, hidden.device).mul_(certain).neg_());
            gradScores = gradScores.to(weight.dtype);
            if (gradHidden is not null)
            {
                _ = gradHidden.narrow(0, start, count).copy_(SumOverWords(gradScores, weight));
            }

            _ = gradWeight?.PlusInPlace(gradScores.t().mm(states));
        }

        context.save_for_backward([gradHidden!, gradWeight?.to(weight.dtype)!]);
        return [loss];
    }

    private static Tensor SumOverWords(Tensor gradScores, Tensor weight)
    {
        var words = weight.size(0);
        var sum = zeros([gradScores.size(0), weight.size(1)], float32, weight.device);
        for (long start = 0; start < words; start += BlockWords)
        {
            var count = Math.Min(BlockWords, words - start);
            using var part = gradScores.narrow(1, start, count).mm(weight.narrow(0, start, count));
            _ = sum.PlusInPlace(part);
        }

        return sum;
    }

    // In place: this graph can be used for backward only once.
    protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients)
    {
        using var factor = gradients[0].to(float32);
        return [.. context.get_saved_variables().Select(saved => saved?.mul_(factor)), null, null, null];
    }
}
