using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Quantization;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers;

/// <summary>Token embedding. Its weight is one parameter, so that a tied output head shares the tensor.</summary>
internal sealed class TokenEmbedding : nn.Module<Tensor, Tensor>, IWeighted
{
    [ComponentName(Name = "weight")]
    private readonly Parameter? _weight;

    private readonly WeightSlot _slot;
    private readonly ScalarType _dtype;

    /// <summary>Creates an embedding from its weight.</summary>
    /// <param name="weight">Weight, [vocabulary, hidden].</param>
    public TokenEmbedding(Parameter weight)
        : this(weight, null, weight?.dtype ?? float32) => ArgumentNullException.ThrowIfNull(weight);

    /// <summary>Creates an embedding with a quantized weight on the CPU, which it owns.</summary>
    /// <param name="weight">Weight, [vocabulary, hidden].</param>
    /// <param name="dtype">Data type of the states.</param>
    public TokenEmbedding(QuantizedWeight weight, ScalarType dtype)
        : this(null, weight, dtype) => ArgumentNullException.ThrowIfNull(weight);

    private TokenEmbedding(Parameter? weight, QuantizedWeight? quantized, ScalarType dtype)
        : base(nameof(TokenEmbedding))
    {
        (_weight, Quantized, _dtype) = (weight, quantized, dtype);
        _slot = new WeightSlot("weight", weight);
        RegisterComponents();
    }

    /// <summary>The weight, [vocabulary, hidden].</summary>
    /// <exception cref="InvalidOperationException">The weight is quantized.</exception>
    public Parameter Weight => _slot.Current ?? throw new InvalidOperationException("the embedding is held quantized, and this needs its values in full; load the model with model.quantized: dequantize");

    /// <summary>The quantized weight; null if the weight is not quantized, or an adapter brings another.</summary>
    public QuantizedWeight? Quantized { get; }

    /// <summary>Data type of the states.</summary>
    internal ScalarType DType => _slot.Current?.dtype ?? _dtype;

    /// <summary>Device of the weight.</summary>
    internal Device Device => _slot.Current?.device ?? CPU;

    /// <summary>Number of tokens.</summary>
    internal long Count => _slot.Current?.size(0) ?? Quantized!.OutFeatures;

    /// <summary>The weight's rows in memory, valid as long as it is; null if they cannot be read there.</summary>
    internal unsafe MatrixRows? InMemory => _slot.Current is not { } weight ? Quantized!.InMemory : CpuKernel.Serves(weight) ? new PlainRows(RowMatrix.Of(weight), (nint)weight.size(0)) : null;

    /// <inheritdoc/>
    public IReadOnlyList<WeightSlot> Slots => [_slot];

    /// <summary>The adapter on the embedding; null for none.</summary>
    public IEmbeddingAdapter? Adapter { get; set; }

    /// <summary>Embeds tokens: [batch, tokens] int64 to [batch, tokens, hidden].</summary>
    public override Tensor forward(Tensor input)
    {
        ArgumentNullException.ThrowIfNull(input);
        using var scope = NewDisposeScope();
        var ids = input.reshape(-1);
        var states = _slot.Current is { } weight ? weight.index_select(0, ids) : Rows(ids);
        states = Adapter?.Apply(this, ids, states) ?? states;
        return states.view(input.size(0), input.size(1), states.size(-1)).MoveToOuterDisposeScope();
    }

    /// <summary>Rows of the weight for some tokens, [tokens, hidden], without autograd.</summary>
    internal Tensor Rows(Tensor ids)
    {
        if (_slot.Current is { } weight)
        {
            return weight.detach().index_select(0, ids);
        }

        using var scope = NewDisposeScope();
        var tokens = ids.to(int64).cpu().contiguous();
        var values = empty([ids.numel(), Quantized!.InFeatures], float32);
        unsafe
        {
            var (from, rows) = ((nint)CpuKernel.Pointer(tokens), Quantized.InMemory!);
            var to = (float*)CpuKernel.Pointer(values);
            for (nint i = 0; i < tokens.numel(); i++)
            {
                rows.Read((nint)((long*)from)[i], 1, to + (i * rows.Depth));
            }
        }

        GC.KeepAlive((tokens, values, Quantized));
        return values.to(DType).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            Quantized?.Dispose();
        }

        base.Dispose(disposing);
    }
}
