using OpenWeights.Tune.Quantization;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Starts;

/// <summary>
/// LoftQ (Li et al., 2023): the weight becomes Q = quantized(W - B A), and B A the best approximation of W - Q of the rank, in turn. A base that is
/// quantized already keeps its values, and B A approximates what they lost, where the weight's own values are known.
/// </summary>
/// <remarks>As in PEFT B A is fitted without the scaling factor s, so that only lora_alpha = r adds what was fitted.</remarks>
internal static class LoftqStart
{
    private const int BlockSize = 64;

    internal static LoraWeights Make(StartContext context)
    {
        using var scope = NewDisposeScope();
        if (context.Layer.Quantized is not null)
        {
            var original = context.Original?.Invoke($"{context.Module}.weight") ?? throw new InvalidDataException($"init_lora_weights: loftq needs {context.Module}.weight as it was before quantization, and the base model's files do not have it.");
            var (ofA, ofB) = Fit(original.sub(context.Weight), context.Rank);
            return new LoraWeights(scope.Detach(ofA.contiguous()), scope.Detach(ofB.contiguous()));
        }

        var (weight, settings) = (context.Weight, context.Config.Loftq);
        var (rest, quantized, a, b) = (weight, weight, (Tensor?)null, (Tensor?)null);
        for (var i = 0; i < settings.Iterations; i++)
        {
            rest = a is null ? weight : weight.sub(b!.mm(a));
            quantized = Quantized(rest, settings.Bits);
            (a, b) = Fit(weight.sub(quantized), context.Rank);
        }

        return new LoraWeights(scope.Detach(a!.contiguous()), scope.Detach(b!.contiguous())) { Base = scope.Detach(quantized.to(context.Layer.Weight.dtype).clone()) };
    }

    // Values after quantization, [out, in], float32.
    private static Tensor Quantized(Tensor weight, int bits)
    {
        using QuantizedWeight packed = bits == 8 ? Int8Weight.Of(weight) : Nf4Weight.Of(weight.contiguous(), BlockSize, doubleQuantization: false);
        return packed.Rows(0, weight.size(0), float32);
    }

    private static (Tensor A, Tensor B) Fit(Tensor lost, int rank)
    {
        var (u, s, vh) = linalg.svd(lost, fullMatrices: false);
        var root = s.narrow(0, 0, rank).sqrt();
        return (vh.narrow(0, 0, rank).mul(root.unsqueeze(1)), u.narrow(1, 0, rank).mul(root));
    }
}
