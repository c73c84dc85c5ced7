using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Quantization;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Projections;

/// <summary>One linear layer of a <see cref="ProjectionGroup"/>: y = x Wᵀ + b + s B A x, and its gradients.</summary>
internal sealed class Projection
{
    // Elements of an update that are computed in float32 at once if the result has another dtype.
    private const long BlockElements = 1 << 17;

    private readonly Parameter? _weight;
    private readonly QuantizedWeight? _quantized;
    private readonly Parameter? _bias;
    private readonly long _outFeatures;

    internal Projection(LinearLayer layer)
    {
        _quantized = layer.Quantized;
        _weight = _quantized is null ? layer.Weight : null;
        _bias = layer.Bias;
        _outFeatures = layer.OutFeatures;
        Update = layer.Adapter?.PlainUpdate;
    }

    /// <summary>The low-rank update, or null.</summary>
    internal LowRankUpdate? Update { get; }

    /// <summary>Whether any parameter of the layer is trained.</summary>
    internal bool IsTrained => Parameters.Any(static p => p?.requires_grad == true);

    /// <summary>Whether backward needs the layer's input, for gradients of W or A.</summary>
    internal bool NeedsInput => _weight?.requires_grad == true || Update?.A.requires_grad == true;

    /// <summary>Parameters that may receive gradients: W, b, and A and B of an update.</summary>
    internal IEnumerable<Tensor> Parameters => Update is null ? [_weight!, _bias!] : [_weight!, _bias!, Update.A, Update.B];

    /// <summary>Whether a layer has no adapter, or one that adds only a low-rank update.</summary>
    internal static bool Serves(LinearLayer layer) => layer.Adapter is null || layer.Adapter?.PlainUpdate is not null;

    /// <summary>The output and, if there is an update, A x in float32, without autograd. In the caller's dispose scope.</summary>
    /// <param name="input">The input, [..., in].</param>
    /// <param name="wantsValues">Whether the output's values are needed; otherwise they are zeros.</param>
    internal (Tensor Output, Tensor? Inner) Forward(Tensor input, bool wantsValues)
    {
        var dtype = ProductPrecision.Of(input, input.numel() / input.size(-1));
        if (wantsValues && Update is null && _weight?.dtype == input.dtype && dtype == input.dtype)
        {
            return (FewRowsProduct.Linear(input, _weight, _bias), null);
        }

        using var scope = NewDisposeScope();
        var features = input.size(-1);
        var states = input.reshape(-1, features).to(dtype);
        var output = wantsValues ? Product(states, dtype) : zeros([states.size(0), _outFeatures], dtype, states.device);
        Tensor? inner = null;
        if (Update is { } update)
        {
            inner = zeros([states.size(0), update.A.size(0)], float32, states.device);
            AddUpdate(states, wantsValues ? output : null, inner, update);
        }

        var shaped = output.to(input.dtype).view([.. input.shape[..^1], output.size(1)]);
        return (shaped.MoveToOuterDisposeScope(), inner?.MoveToOuterDisposeScope());
    }

    /// <summary>Gradients of <see cref="Parameters"/>, null if not needed; in the caller's dispose scope.</summary>
    /// <param name="given">Gradient of the output, [..., out].</param>
    /// <param name="input">The input, [..., in]; null if <see cref="NeedsInput"/> is false.</param>
    /// <param name="inner">A x from forward.</param>
    /// <param name="sum">Accumulates the gradient of the input; null if not needed.</param>
    internal IReadOnlyList<Tensor?> Backward(Tensor given, Tensor? input, Tensor? inner, InputGradient? sum)
    {
        using var scope = NewDisposeScope();
        var dtype = ProductPrecision.Of(given, given.numel() / given.size(-1));
        var gradient = given.reshape(-1, given.size(-1)).to(dtype);
        var states = input?.reshape(-1, input.size(-1)).to(dtype);
        if (sum is not null)
        {
            if (_quantized is not null)
            {
                sum.Add(QuantizedProduct.Backward(gradient, _quantized));
            }
            else
            {
                sum.AddProduct(gradient, _weight!.detach().to(dtype));
            }
        }

        var weight = _weight?.requires_grad == true ? gradient.t().mm(states!).to(_weight.dtype) : null;
        var bias = _bias?.requires_grad == true ? given.reshape(-1, given.size(-1)).sum([0]) : null;
        Tensor?[] ofUpdate = Update is { } update ? UpdateGradients(gradient.to(float32), states, inner!, update, sum) : [];
        return [weight?.MoveToOuterDisposeScope(), bias?.MoveToOuterDisposeScope(), .. ofUpdate.Select(static g => g?.MoveToOuterDisposeScope())];
    }

    // Gradients of A and B, and the update's part of the input's gradient.
    private static Tensor?[] UpdateGradients(Tensor gradient, Tensor? states, Tensor inner, LowRankUpdate update, InputGradient? sum)
    {
        using var scope = NewDisposeScope();
        var b = update.B.requires_grad ? Products.Of(gradient.t(), inner, update.Scale) : null;
        var ofInner = Products.Of(gradient, update.B.detach(), update.Scale);
        var a = update.A.requires_grad ? Products.Of(states!.to(float32).t(), ofInner).t().contiguous() : null;
        sum?.AddProduct(ofInner, update.A.detach());
        return [a?.MoveToOuterDisposeScope(), b?.MoveToOuterDisposeScope()];
    }

    // x Wᵀ + b in a given dtype, a new tensor.
    private Tensor Product(Tensor states, ScalarType dtype)
    {
        if (_quantized is null)
        {
            return FewRowsProduct.Linear(states, _weight!.detach().to(dtype), _bias?.detach().to(dtype));
        }

        var product = QuantizedProduct.Forward(states, _quantized);
        return _bias is null ? product : product.PlusInPlace(_bias.detach().to(dtype));
    }

    // A x; s B A x is added to the output if it is needed.
    private static void AddUpdate(Tensor states, Tensor? output, Tensor inner, LowRankUpdate update)
    {
        var (a, b) = (update.A.detach().t().contiguous(), update.B.detach().t().contiguous());
        if (output is null || output.dtype == float32)
        {
            Products.Add(inner, states.to(float32), a);
            if (output is not null)
            {
                Products.Add(output, inner, b, update.Scale);
            }

            return;
        }

        // The sum is computed in float32 and rounded once, a few rows at a time.
        var rows = states.device.type == TorchSharp.DeviceType.CPU ? Math.Max(1, BlockElements / Math.Max(states.size(1), output.size(1))) : Math.Max(1, states.size(0));
        for (long start = 0; start < states.size(0); start += rows)
        {
            using var scope = NewDisposeScope();
            var count = Math.Min(rows, states.size(0) - start);
            var part = inner.narrow(0, start, count);
            Products.Add(part, states.narrow(0, start, count).to(float32), a);
            var target = output.narrow(0, start, count);
            var exact = target.to(float32);
            Products.Add(exact, part, b, update.Scale);
            _ = target.copy_(exact);
        }
    }
}

/// <summary>A low-rank update s B A x of a layer's output.</summary>
/// <param name="A">Matrix A, [rank, in], float32.</param>
/// <param name="B">Matrix B, [out, rank], float32.</param>
/// <param name="Scale">Scaling factor s.</param>
internal sealed record LowRankUpdate(Tensor A, Tensor B, float Scale);
