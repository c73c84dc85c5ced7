using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Quantization;

/// <summary>x Wᵀ with a quantized W. W is dequantized a few rows at a time, in forward and again in backward, and never stored.</summary>
internal sealed class QuantizedProduct : CustomFunction<QuantizedProduct>
{
    // Up to this number of rows the weight is multiplied as it is unpacked; with more, BLAS multiplies larger unpacked parts.
    private const long MaxRows = 16;

    /// <summary>Computes the product.</summary>
    /// <param name="input">The input, [..., in].</param>
    /// <param name="weight">The weight, [out, in].</param>
    internal static Tensor Run(Tensor input, QuantizedWeight weight) => is_grad_enabled() && input.requires_grad ? Record(input, weight)[0] : Forward(input, weight);

    protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
    {
        context.save_data("weight", inputs[1]);
        return [Forward((Tensor)inputs[0], (QuantizedWeight)inputs[1])];
    }

    protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients) =>
        [Backward(gradients[0], (QuantizedWeight)context.get_data("weight")), null];

    /// <summary>Computes the product without autograd.</summary>
    internal static Tensor Forward(Tensor input, QuantizedWeight weight)
    {
        using var scope = NewDisposeScope();
        var rows = input.reshape(-1, weight.InFeatures);
        if (OfFewRows(rows, weight) is { } few)
        {
            return Shaped(few.to(input.dtype), input, weight.OutFeatures).MoveToOuterDisposeScope();
        }

        if (weight.PartRows >= weight.OutFeatures)
        {
            return Shaped(nn.functional.linear(rows, weight.Rows(0, weight.OutFeatures, input.dtype)), input, weight.OutFeatures).MoveToOuterDisposeScope();
        }

        var output = empty([rows.size(0), weight.OutFeatures], input.dtype, input.device);
        foreach (var (start, count) in weight.Parts())
        {
            using var inner = NewDisposeScope();
            _ = output.narrow(1, start, count).copy_(nn.functional.linear(rows, weight.Rows(start, count, input.dtype)));
        }

        return Shaped(output, input, weight.OutFeatures).MoveToOuterDisposeScope();
    }

    /// <summary>Gradient of the input, in the caller's dispose scope.</summary>
    internal static Tensor Backward(Tensor gradient, QuantizedWeight weight)
    {
        using var scope = NewDisposeScope();
        var rows = gradient.reshape(-1, weight.OutFeatures);
        Tensor? sum = null;
        foreach (var (start, count) in weight.Parts())
        {
            using var inner = NewDisposeScope();
            var part = rows.narrow(1, start, count).mm(weight.Rows(start, count, gradient.dtype));
            if (weight.PartRows >= weight.OutFeatures)
            {
                sum = inner.MoveToOuter(part);
            }
            else
            {
                // Partial sums are accumulated in float32 for every dtype.
                sum = sum is null ? inner.MoveToOuter(part.to(WideNumbers.Of(part.dtype), copy: true)) : sum.PlusInPlace(part.Widened());
            }
        }

        return Shaped(sum!.to(gradient.dtype), gradient, weight.InFeatures).MoveToOuterDisposeScope();
    }

    // The product for the few tokens processed at once during generation, in float32; null if there are more, or not on the CPU.
    private static Tensor? OfFewRows(Tensor rows, QuantizedWeight weight)
    {
        if (rows.device.type != TorchSharp.DeviceType.CPU || rows.dtype == float64 || rows.numel() == 0 || rows.size(0) > MaxRows || weight.InMemory is not { } matrix)
        {
            return null;
        }

        var states = rows.detach().to(float32).contiguous();
        var sums = empty([rows.size(0), weight.OutFeatures], float32);
        var (vectors, output) = (FloatRows.Of(states), FloatRows.Of(sums));
        CpuKernel.Run(output.Stride, matrix.Depth, (first, last) => matrix.Multiply((nint)first, (nint)last, vectors, output.From((nint)first)));
        GC.KeepAlive((states, sums, weight));
        return sums;
    }

    private static Tensor Shaped(Tensor rows, Tensor like, long features)
    {
        var shape = like.shape;
        shape[^1] = features;
        return rows.view(shape);
    }
}
