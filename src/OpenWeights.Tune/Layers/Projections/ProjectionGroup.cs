using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Quantization;
using OpenWeights.Tune.Torch;
using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Layers.Projections;

/// <summary>
/// Linear layers with the same input x, each with an optional low-rank update (LoRA), as one autograd function.
/// <code>
/// forward     h = x Aᵀ
///             y = x Wᵀ + b + s h Bᵀ
/// backward    dh = s dy B
///             dW = dyᵀ x     db = sum of the rows of dy
///             dA = dhᵀ x     dB = s dyᵀ h
///             dx = sum over the layers of dy W + dh A
/// </code>
/// The matrices A of all layers are stacked and their h stand side by side, so that x is multiplied once. Updates are computed in float32; in
/// a bfloat16 model the sum y is rounded once. Backward recomputes x (<see cref="LayerInput"/>) and computes only the gradients of trained
/// parameters. W may be quantized.
/// </summary>
internal sealed class ProjectionGroup : CustomFunction<ProjectionGroup>
{
    // Elements that are converted to float32 at once on a CPU, so that they stay in a cache.
    private const long BlockElements = 1 << 17;

    /// <summary>Whether layers are supported: their adapters add only a low-rank update.</summary>
    internal static bool Serves(params ReadOnlySpan<LinearLayer> layers)
    {
        foreach (var layer in layers)
        {
            if (!Projection.Serves(layer))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Output of each layer, [..., out], in the caller's dispose scope.</summary>
    internal static List<Tensor> Run(LayerInput input, params LinearLayer[] layers) => Run(input, wantsValues: true, layers);

    /// <summary>Output of each layer, [..., out], in the caller's dispose scope.</summary>
    /// <param name="input">The input of the layers.</param>
    /// <param name="wantsValues">Whether the output values are needed. If false, only the autograd graph is built and the values are
    /// zeros.</param>
    /// <param name="layers">The layers.</param>
    internal static List<Tensor> Run(LayerInput input, bool wantsValues, params LinearLayer[] layers)
    {
        var projections = Projection.Of(layers);
        if (!is_grad_enabled() || !(input.Sources.Any(static s => s.requires_grad) || projections.Any(static p => p.IsTrained)))
        {
            using var nothing = no_grad();
            using var scope = NewDisposeScope();
            return Compute(input.Make().Input, projections, wantsValues).Outputs.ConvertAll(static o => o.MoveToOuterDisposeScope());
        }

        return Record([(input, projections, wantsValues), .. input.Sources, .. projections.SelectMany(static p => p.Parameters)]);
    }

    protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
    {
        var (input, projections, wantsValues) = ((LayerInput, Projection[], bool))inputs[0];
        var (made, kept) = input.Make();
        var (outputs, inner) = Compute(made, projections, wantsValues);
        var sources = input.NeedsSources || projections.Any(static p => p.NeedsInput) ? input.Sources : [];
        context.save_for_backward(inner is null ? [.. sources, .. kept] : [.. sources, .. kept, inner]);
        context.save_data("what", new Saved(input, projections, sources.Count, kept.Count, input.Sources.Any(static s => s.requires_grad)));
        return outputs;
    }

    protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients)
    {
        var (saved, tensors) = ((Saved)context.get_data("what"), context.get_saved_variables());
        var (sources, kept) = (tensors[..saved.Sources], tensors.GetRange(saved.Sources, saved.Kept));
        var inner = tensors.ElementAtOrDefault(saved.Sources + saved.Kept);
        var input = Array.Exists(saved.Projections, static p => p.NeedsInput) ? saved.Input.Again(sources, kept) : null;
        var dtype = ProductPrecision.Of(gradients[0], gradients[0].numel() / gradients[0].size(-1));
        Tensor[] given = [.. gradients.Select(g => g.reshape(-1, g.size(-1)).to(dtype))];
        var (parameters, ofInner) = ParameterGradients(saved.Projections, given, input, inner);

        // The recomputed input is freed before the gradients of its sources are allocated.
        if (input is not null && !sources.Exists(s => ReferenceEquals(s, input)))
        {
            input.Dispose();
        }

        if (!saved.WantsInput)
        {
            return [null, .. saved.Input.Sources.Select(static _ => (Tensor?)null), .. parameters];
        }

        var sum = InputGradient(saved.Projections, given, ofInner, gradients[0].dtype);
        var ofInput = sum.view([.. gradients[0].shape[..^1], sum.size(1)]);
        return [null, .. saved.Input.Backward(sources, kept, ofInput), .. parameters];
    }

    // The outputs, and h of all updates.
    private static (List<Tensor> Outputs, Tensor? Inner) Compute(Tensor input, Projection[] projections, bool wantsValues)
    {
        using var scope = NewDisposeScope();
        var width = input.size(-1);
        var states = input.reshape(-1, width).to(ProductPrecision.Of(input, input.numel() / width));
        var (inner, outputs) = (Inner(states, projections), new List<Tensor>());
        foreach (var projection in projections)
        {
            var output = wantsValues ? projection.Product(states) : zeros([states.size(0), projection.OutFeatures], states.dtype, states.device);
            if (wantsValues && projection.Update is { } update)
            {
                AddUpdate(output, projection.Part(inner!), update);
            }

            outputs.Add(output.to(input.dtype).view([.. input.shape[..^1], projection.OutFeatures]).MoveToOuterDisposeScope());
        }

        return (outputs, inner?.MoveToOuterDisposeScope());
    }

    // h = x Aᵀ, [rows, sum of ranks]; null without updates.
    private static Tensor? Inner(Tensor states, Projection[] projections)
    {
        if (StackedA(projections) is not { } a)
        {
            return null;
        }

        var inner = empty([states.size(0), a.size(0)], a.dtype, states.device);
        foreach (var (start, count) in Blocks(states))
        {
            using var scope = NewDisposeScope();
            _ = inner.narrow(0, start, count).addmm_(states.narrow(0, start, count).Widened(), a.t(), beta: 0);
        }

        return inner;
    }

    // y += s h Bᵀ.
    private static void AddUpdate(Tensor output, Tensor inner, LowRankUpdate update)
    {
        foreach (var (start, count) in Blocks(output))
        {
            using var scope = NewDisposeScope();
            var target = output.narrow(0, start, count);
            var sum = target.Widened().addmm_(inner.narrow(0, start, count), update.B.detach().t(), alpha: update.Scale);
            if (output.dtype != sum.dtype)
            {
                _ = target.copy_(sum);
            }
        }
    }

    // dW, db, dA and dB of each layer, null where not needed; and dh, null without updates.
    private static (List<Tensor?> Parameters, Tensor? Inner) ParameterGradients(Projection[] projections, Tensor[] gradients, Tensor? input, Tensor? inner)
    {
        using var scope = NewDisposeScope();
        var states = input?.reshape(-1, input.size(-1)).to(gradients[0].dtype);
        var (ofInner, ofB) = (inner is null ? null : empty_like(inner), new List<Tensor?>());
        foreach (var (projection, gradient) in projections.Zip(gradients))
        {
            ofB.Add(projection.Update is { } update ? UpdateGradients(gradient, update, projection.Part(inner!), projection.Part(ofInner!)) : null);
        }

        var ofA = Array.Exists(projections, static p => p.Update?.A.requires_grad == true) ? StackedAGradient(ofInner!, states!) : null;
        var found = new List<Tensor?>();
        for (var i = 0; i < projections.Length; i++)
        {
            var (projection, gradient) = (projections[i], gradients[i]);
            found.Add(projection.Weight is { requires_grad: true } weight ? gradient.t().mm(states!).to(weight.dtype) : null);
            found.Add(projection.Bias is { requires_grad: true } bias ? gradient.sum([0]).to(bias.dtype) : null);
            if (projection.Update is { } update)
            {
                found.AddRange([update.A.requires_grad ? projection.Rows(ofA!).clone() : null, ofB[i]]);
            }
        }

        return ([.. found.Select(static g => g?.MoveToOuterDisposeScope())], ofInner?.MoveToOuterDisposeScope());
    }

    // dh = s dy B, written to its place, and dB = s dyᵀ h, null if it is not needed.
    private static Tensor? UpdateGradients(Tensor gradient, LowRankUpdate update, Tensor inner, Tensor ofInner)
    {
        using var scope = NewDisposeScope();
        var (exact, b) = (gradient.Widened(), update.B.detach());
        _ = ofInner.addmm_(exact, b, beta: 0, alpha: update.Scale);
        return update.B.requires_grad ? empty_like(b).addmm_(exact.t(), inner, beta: 0, alpha: update.Scale).MoveToOuterDisposeScope() : null;
    }

    // dA = dhᵀ x of all updates, [sum of ranks, in].
    private static Tensor StackedAGradient(Tensor ofInner, Tensor states)
    {
        var sum = zeros([ofInner.size(1), states.size(1)], ofInner.dtype, states.device);
        foreach (var (start, count) in Blocks(states))
        {
            using var scope = NewDisposeScope();
            _ = sum.addmm_(ofInner.narrow(0, start, count).t(), states.narrow(0, start, count).Widened());
        }

        return sum;
    }

    // dx = sum of dy W + dh A, [rows, in]: if there are several terms, they are summed in float32 and rounded once.
    private static Tensor InputGradient(Projection[] projections, Tensor[] gradients, Tensor? ofInner, ScalarType dtype)
    {
        using var scope = NewDisposeScope();
        var sum = ofInner?.mm(StackedA(projections)!);
        foreach (var (projection, gradient) in projections.Zip(gradients))
        {
            using var inScope = NewDisposeScope();
            sum = (sum is null ? projection.InputProduct(gradient) : projection.AddInputProduct(sum.Widened(), gradient)).MoveToOuterDisposeScope();
        }

        return sum!.to(dtype).MoveToOuterDisposeScope();
    }

    // A of all updates, [sum of ranks, in]; null without updates.
    private static Tensor? StackedA(Projection[] projections)
    {
        Tensor[] all = [.. projections.Where(static p => p.Update is not null).Select(static p => p.Update!.A.detach())];
        return all.Length == 0 ? null : all.Length == 1 ? all[0] : cat(all);
    }

    // Ranges of rows to convert to float32 at once; a single range if they are in float32 or on a GPU.
    private static IEnumerable<(long Start, long Count)> Blocks(Tensor matrix)
    {
        var rows = matrix.size(0);
        var size = matrix.dtype == WideNumbers.Of(matrix.dtype) || matrix.device.type != TorchSharp.DeviceType.CPU ? Math.Max(1, rows) : Math.Max(1, BlockElements / matrix.size(1));
        for (long start = 0; start < rows; start += size)
        {
            yield return (start, Math.Min(size, rows - start));
        }
    }

    private sealed record Saved(LayerInput Input, Projection[] Projections, int Sources, int Kept, bool WantsInput);
}

/// <summary>The weights of a linear layer in a <see cref="ProjectionGroup"/>.</summary>
internal sealed class Projection
{
    private readonly QuantizedWeight? _quantized;
    private readonly long _firstRank;

    /// <summary>The weights of a layer.</summary>
    /// <param name="layer">The layer.</param>
    /// <param name="firstRank">Sum of the ranks of the layers before it in the group.</param>
    internal Projection(LinearLayer layer, long firstRank = 0)
    {
        _quantized = layer.Quantized;
        _firstRank = firstRank;
        Weight = _quantized is null ? layer.Weight : null;
        Bias = layer.Bias;
        OutFeatures = layer.OutFeatures;
        Update = layer.Adapter?.PlainUpdate;
    }

    /// <summary>W, [out, in]; null if it is quantized.</summary>
    internal Parameter? Weight { get; }

    /// <summary>b, [out], or null.</summary>
    internal Parameter? Bias { get; }

    /// <summary>The low-rank update, or null.</summary>
    internal LowRankUpdate? Update { get; }

    /// <summary>Number of output features.</summary>
    internal long OutFeatures { get; }

    /// <summary>Whether any parameter of the layer is trained.</summary>
    internal bool IsTrained => Parameters.Any(static p => p?.requires_grad == true);

    /// <summary>Whether backward needs the layer's input, for gradients of W or A.</summary>
    internal bool NeedsInput => Weight?.requires_grad == true || Update?.A.requires_grad == true;

    /// <summary>Parameters that may receive gradients: W, b, and A and B of an update.</summary>
    internal IEnumerable<Tensor> Parameters => Update is null ? [Weight!, Bias!] : [Weight!, Bias!, Update.A, Update.B];

    private long Rank => Update?.A.size(0) ?? 0;

    /// <summary>Whether a layer has no adapter, or one that adds only a low-rank update.</summary>
    internal static bool Serves(LinearLayer layer) => layer.Adapter is null || layer.Adapter.PlainUpdate is not null;

    /// <summary>The layers of a group.</summary>
    internal static Projection[] Of(LinearLayer[] layers)
    {
        long ranks = 0;
        return Array.ConvertAll(layers, layer =>
        {
            var projection = new Projection(layer, ranks);
            ranks += projection.Rank;
            return projection;
        });
    }

    /// <summary>The columns of this layer in h, [rows, sum of ranks].</summary>
    internal Tensor Part(Tensor inner) => inner.narrow(1, _firstRank, Rank);

    /// <summary>The rows of this layer in the stacked A, [sum of ranks, in].</summary>
    internal Tensor Rows(Tensor stacked) => stacked.narrow(0, _firstRank, Rank);

    /// <summary>x Wᵀ + b, [rows, out], in the dtype of x, a new tensor.</summary>
    internal Tensor Product(Tensor states)
    {
        if (_quantized is null)
        {
            return FewRowsProduct.Linear(states, Weight!.detach().to(states.dtype), Bias?.detach().to(states.dtype));
        }

        var product = QuantizedProduct.Forward(states, _quantized);
        return Bias is null ? product : product.PlusInPlace(Bias.detach().to(states.dtype));
    }

    /// <summary>dy W, [rows, in], a new tensor.</summary>
    internal Tensor InputProduct(Tensor gradient) =>
        _quantized is null ? gradient.mm(Weight!.detach().to(gradient.dtype)) : QuantizedProduct.Backward(gradient, _quantized);

    /// <summary>sum += dy W, in float32; returns the sum.</summary>
    internal Tensor AddInputProduct(Tensor sum, Tensor gradient) => _quantized is null && gradient.dtype == WideNumbers.Of(gradient.dtype)
        ? sum.addmm_(gradient, Weight!.detach().Widened())
        : sum.PlusInPlace(InputProduct(gradient).Widened());
}

/// <summary>A low-rank update s B A x of a layer's output.</summary>
/// <param name="A">Matrix A, [rank, in], float32.</param>
/// <param name="B">Matrix B, [out, rank], float32.</param>
/// <param name="Scale">Scaling factor s.</param>
internal sealed record LowRankUpdate(Tensor A, Tensor B, float Scale);
