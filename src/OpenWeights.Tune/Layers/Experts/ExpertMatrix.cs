using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Quantization;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Experts;

/// <summary>One matrix of every expert, with low-rank updates: y = x Wₑᵀ + bₑ + Σ s Bₑ Aₑ x. W may be quantized, expert by expert.</summary>
internal sealed class ExpertMatrix : IDisposable
{
    private readonly ExpertSettings _settings;
    private readonly WeightSlot _weight;
    private readonly WeightSlot? _bias;

    /// <summary>Creates a matrix of every expert.</summary>
    /// <param name="settings">Settings of the experts.</param>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="module">Name of the experts in the checkpoint.</param>
    /// <param name="name">Name of the parameter within them.</param>
    /// <param name="output">Number of output features.</param>
    /// <param name="input">Number of input features.</param>
    internal ExpertMatrix(ExpertSettings settings, IWeightSource weights, string module, string name, Dimension output, Dimension input)
    {
        _settings = settings;
        (Name, OutFeatures, InFeatures) = (name, output.Size, input.Size);
        var count = new Dimension(settings.CountSetting, settings.Count);
        var (first, second) = settings.IsTransposed ? (input, output) : (output, input);
        Quantized = weights.TakeQuantizedStack($"{module}.{name}", count, output, input, settings.IsTransposed);
        _weight = new WeightSlot(name, Quantized is null ? weights.Take($"{module}.{name}", InitialWeight.Normal, count, first, second) : null);
        _bias = settings.HasBias ? new WeightSlot($"{name}_bias", weights.Take($"{module}.{name}_bias", InitialWeight.Zeros, count, output)) : null;
    }

    /// <summary>Name of the parameter, such as gate_up_proj.</summary>
    internal string Name { get; }

    /// <summary>Number of output features.</summary>
    internal long OutFeatures { get; }

    /// <summary>Number of input features.</summary>
    internal long InFeatures { get; }

    /// <summary>Number of experts.</summary>
    internal int Count => _settings.Count;

    /// <summary>Whether the parameter is stored as [experts, in, out].</summary>
    internal bool IsTransposed => _settings.IsTransposed;

    /// <summary>Whether updates are meant as of [experts, out, in] although the parameter is stored as [experts, in, out].</summary>
    internal bool UpdatesAsStored => _settings.UpdatesAsStored;

    /// <summary>The quantized weight of each expert; null if the weights are not quantized.</summary>
    internal IReadOnlyList<QuantizedWeight>? Quantized { get; }

    /// <summary>The weights in use; null if quantized.</summary>
    internal Parameter? Weight => _weight.Current;

    /// <summary>The biases in use, [experts, out]; null for none.</summary>
    internal Parameter? Bias => _bias?.Current;

    /// <summary>The weights and the biases.</summary>
    internal IReadOnlyList<WeightSlot> Slots => _bias is null ? [_weight] : [_weight, _bias];

    /// <summary>The updates in use.</summary>
    internal List<ExpertUpdate> Updates { get; } = [];

    /// <summary>Input width of an update's A and output width of its B: those of the stored parameter or of the product.</summary>
    internal (long In, long Out) UpdateFeatures => UpdatesAsStored ? (OutFeatures, InFeatures) : (InFeatures, OutFeatures);

    /// <summary>Tensors that may receive gradients.</summary>
    internal IEnumerable<Tensor?> Parameters => [Weight, Bias, .. Updates.SelectMany(static u => new[] { u.A, u.B })];

    /// <summary>The weight of an expert, [out, in]: a view.</summary>
    internal Tensor Of(int expert) => OfStack(Weight!.detach(), expert);

    /// <summary>An expert's matrix in a tensor of the parameter's shape, [out, in]: a view.</summary>
    internal Tensor OfStack(Tensor stack, int expert) => IsTransposed ? stack.select(0, expert).t() : stack.select(0, expert);

    /// <summary>An expert's output without autograd, [rows, out], in the states' dtype.</summary>
    /// <param name="expert">Index of the expert.</param>
    /// <param name="states">The states, [rows, in].</param>
    /// <param name="tokens">The token of each row, counted row by row of the batch, int64.</param>
    internal Tensor Forward(int expert, Tensor states, Tensor tokens)
    {
        using var scope = NewDisposeScope();
        var dtype = ProductPrecision.Of(states, states.size(0));
        var (rows, bias) = (states.to(dtype), Bias?.detach().select(0, expert).to(dtype));
        Tensor output;
        if (Quantized is null)
        {
            output = FewRowsProduct.Linear(rows, Of(expert).to(dtype), bias);
        }
        else
        {
            output = QuantizedProduct.Forward(rows, Quantized[expert]);
            output = bias is null ? output : output.PlusInPlace(bias);
        }

        foreach (var update in Updates)
        {
            if (update.Adapter is { } name && AdapterRows.Current?.Names.Contains(name) != true)
            {
                continue;
            }

            var (a, b) = update.Of(this, expert);
            var (exact, inner) = (output.Widened(), rows.Widened().mm(a.t()));
            var share = update.Adapter is null ? null : AdapterRows.Current!.Share(update.Adapter, tokens, inner.dtype);
            output = exact.addmm_(share is null ? inner : inner.mul(share), b.t(), alpha: update.Scale).to(dtype);
        }

        return output.to(states.dtype).MoveToOuterDisposeScope();
    }

    /// <summary>Gradient of an expert's input, [rows, in], in the dtype of its output's.</summary>
    /// <param name="expert">Index of the expert.</param>
    /// <param name="gradient">Gradient of its output, [rows, out].</param>
    internal Tensor InputGradient(int expert, Tensor gradient)
    {
        using var scope = NewDisposeScope();
        var dtype = ProductPrecision.Of(gradient, gradient.size(0));
        var given = gradient.to(dtype);
        var sum = Quantized is null ? given.mm(Of(expert).to(dtype)) : QuantizedProduct.Backward(given, Quantized[expert]);
        foreach (var update in Updates)
        {
            var (a, b) = update.Of(this, expert);
            var exact = sum.Widened();
            sum = exact.addmm_(given.Widened().mm(b), a, alpha: update.Scale).to(dtype);
        }

        return sum.to(gradient.dtype).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var weight in Quantized ?? [])
        {
            weight.Dispose();
        }
    }
}

/// <summary>A low-rank update of a matrix of every expert, in PEFT's shapes.</summary>
/// <param name="A">Matrices A, [experts x rank, in], an expert's rows following each other.</param>
/// <param name="B">Matrices B, [out, rank x experts], an expert's columns as far apart as there are experts.</param>
/// <param name="Scale">Scaling factor s.</param>
/// <param name="Adapter">Name of the adapter, if only its rows have the update (<see cref="AdapterRows"/>); null for all.</param>
internal sealed record ExpertUpdate(Tensor A, Tensor B, float Scale, string? Adapter = null)
{
    /// <summary>The update of an expert: A [rank, in] and B [out, rank], float32 views.</summary>
    internal (Tensor A, Tensor B) Of(ExpertMatrix matrix, int expert) => Views(matrix, A.detach(), B.detach(), expert);

    /// <summary>An expert's part of tensors of the shapes of <see cref="A"/> and <see cref="B"/>, as it multiplies that expert's states.</summary>
    internal static (Tensor A, Tensor B) Views(ExpertMatrix matrix, Tensor a, Tensor b, int expert)
    {
        var (experts, (input, output)) = (matrix.Count, matrix.UpdateFeatures);
        var rank = a.size(0) / experts;
        var (ownA, ownB) = (a.view(experts, rank, input).select(0, expert), b.view(output, rank, experts).select(2, expert));
        return matrix.UpdatesAsStored ? (ownB.t(), ownA.t()) : (ownA, ownB);
    }
}
