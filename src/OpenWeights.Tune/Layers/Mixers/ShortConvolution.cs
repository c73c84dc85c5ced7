using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Torch;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Layers.Mixers;

/// <summary>
/// A short causal depthwise convolution: for each channel the weighted sum of the inputs of a token and a few earlier tokens. It restarts at each
/// document.
/// </summary>
internal sealed class ShortConvolution : nn.Module, IWeighted
{
    [ComponentName(Name = "weight")]
    private readonly Parameter _weight;

    [ComponentName(Name = "bias")]
    private readonly Parameter? _bias;

    private readonly WeightSlot _weightSlot;
    private readonly WeightSlot? _biasSlot;
    private readonly bool _activates;

    /// <summary>Creates a convolution.</summary>
    /// <param name="weight">Weight, [channels, 1, kernel], the token's own input last.</param>
    /// <param name="bias">Bias, [channels], or null.</param>
    /// <param name="activates">Whether SiLU is applied to the sum.</param>
    public ShortConvolution(Parameter weight, Parameter? bias, bool activates)
        : base(nameof(ShortConvolution))
    {
        ArgumentNullException.ThrowIfNull(weight);
        (_weight, _bias, _activates) = (weight, bias, activates);
        _weightSlot = new WeightSlot("weight", _weight);
        _biasSlot = _bias is null ? null : new WeightSlot("bias", _bias);
        Kernel = (int)weight.size(-1);
        RegisterComponents();
    }

    /// <summary>Kernel size: the number of tokens that are summed.</summary>
    public int Kernel { get; }

    /// <summary>Number of inputs of a text that decoding with a cache keeps.</summary>
    internal long StateElements => (Kernel - 1) * _weight.size(0);

    /// <inheritdoc/>
    public IReadOnlyList<WeightSlot> Slots => _biasSlot is null ? [_weightSlot] : [_weightSlot, _biasSlot];

    /// <summary>A convolution with its weights from a source.</summary>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="name">Name of the convolution, without .weight.</param>
    /// <param name="channels">The number of channels.</param>
    /// <param name="kernel">Kernel size: the number of tokens that are summed.</param>
    /// <param name="hasBias">Whether there is a bias.</param>
    /// <param name="activates">Whether SiLU is applied to the sum.</param>
    public static ShortConvolution Take(IWeightSource weights, string name, Dimension channels, Dimension kernel, bool hasBias, bool activates)
    {
        ArgumentNullException.ThrowIfNull(weights);
        var weight = weights.Take($"{name}.weight", InitialWeight.Convolution, channels, new Dimension("1", 1), kernel);
        return new ShortConvolution(weight, hasBias ? weights.Take($"{name}.bias", InitialWeight.Zeros, channels) : null, activates);
    }

    /// <summary>Convolves the inputs of tokens.</summary>
    /// <param name="inputs">[batch, tokens, channels].</param>
    /// <param name="documents">Document of each token, [batch, tokens], int64; null if each row is one document.</param>
    /// <param name="state">The inputs of earlier tokens, to which these are added; null without a cache.</param>
    /// <returns>[batch, tokens, channels].</returns>
    internal Tensor Run(Tensor inputs, Tensor? documents, ConvolutionState? state)
    {
        var (weight, bias) = (_weightSlot.Current!, _biasSlot?.Current);
        if (state is null)
        {
            return Convolution.Of(inputs, weight, bias, documents, _activates);
        }

        using var scope = NewDisposeScope();
        var tokens = inputs.size(1);
        var all = state.Append(inputs, documents);
        var past = all.size(1) - tokens;
        var known = documents is null ? null : cat([documents.narrow(1, 0, 1).expand(-1, past), documents], 1);
        return Convolution.Of(all, weight, bias, known, _activates).narrow(1, past, tokens).MoveToOuterDisposeScope();
    }
}

/// <summary>The last inputs of a short convolution, which the sums of the next tokens need.</summary>
/// <param name="length">Number of inputs: the kernel size minus one.</param>
internal sealed class ConvolutionState(int length) : LayerState
{
    private Tensor? _inputs;
    private Tensor? _document;

    /// <inheritdoc/>
    public override long ByteLength => _inputs is { } held ? held.numel() * held.element_size() : 0;

    /// <summary>Adds the inputs of tokens.</summary>
    /// <param name="inputs">[batch, tokens, channels].</param>
    /// <param name="documents">Document of each token, [batch, tokens], or null.</param>
    /// <returns>The inputs of earlier tokens and these, in the caller's dispose scope. Those of another document than the first of these tokens are zeros.</returns>
    internal Tensor Append(Tensor inputs, Tensor? documents)
    {
        using var scope = NewDisposeScope();
        var tokens = inputs.size(1);
        var held = _inputs ?? zeros([inputs.size(0), length, inputs.size(2)], inputs.dtype, inputs.device);
        var (first, last) = (documents?.narrow(1, 0, 1), documents?.narrow(1, tokens - 1, 1));
        if (_document is not null && first is not null)
        {
            held = held.mul(first.eq(_document).unsqueeze(-1));
        }

        var all = cat([held, inputs], 1);
        var kept = all.narrow(1, tokens, length);
        if (documents is not null)
        {
            kept = kept.mul(cat([first!.expand(-1, length), documents], 1).narrow(1, tokens, length).eq(last!).unsqueeze(-1));
        }

        Replace(ref _inputs, kept);
        if (last is not null)
        {
            Replace(ref _document, last);
        }

        return all.MoveToOuterDisposeScope();
    }

    // What is summed cannot be taken back, and what was dropped is gone.
    internal override bool CanTruncate(int length) => false;

    internal override void Truncate(int length) => throw new InvalidOperationException("a convolution's earlier inputs are not kept");

    internal override void Select(long[] rows) => (_inputs, _document) = (Chosen(_inputs, rows), Chosen(_document, rows));

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        _inputs?.Dispose();
        _document?.Dispose();
        (_inputs, _document) = (null, null);
    }

    private static void Replace(ref Tensor? held, Tensor value)
    {
        var copy = value.clone().DetachFromDisposeScope();
        held?.Dispose();
        held = copy;
    }
}

/// <summary>
/// A short convolution, computed for some tokens at a time, so that intermediate results stay in a CPU's cache. Only the inputs are saved for
/// backward; the input of SiLU is recomputed.
/// </summary>
internal sealed class Convolution : CustomFunction<Convolution>
{
    private const long BlockElements = 1 << 17;

    /// <summary>Convolves inputs.</summary>
    /// <param name="inputs">[batch, tokens, channels].</param>
    /// <param name="weight">[channels, 1, kernel].</param>
    /// <param name="bias">[channels], or null.</param>
    /// <param name="documents">Document of each token, [batch, tokens], or null.</param>
    /// <param name="activates">Whether SiLU is applied to the sum.</param>
    internal static Tensor Of(Tensor inputs, Tensor weight, Tensor? bias, Tensor? documents, bool activates)
    {
        if (is_grad_enabled() && (inputs.requires_grad || weight.requires_grad || bias?.requires_grad == true))
        {
            return Record(inputs, weight, bias, documents, activates)[0];
        }

        using var scope = NewDisposeScope();
        return new Sums(inputs, weight, bias, documents).All(activates).MoveToOuterDisposeScope();
    }

    protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
    {
        var (states, weight, bias, documents, activates) = ((Tensor)inputs[0], (Tensor)inputs[1], (Tensor?)inputs[2], (Tensor?)inputs[3], (bool)inputs[4]);
        context.save_for_backward([.. new[] { states, weight, bias, documents }.OfType<Tensor>()]);
        context.save_data("saved", new Saved(bias is not null, documents is not null, activates, states.requires_grad, weight.requires_grad || bias?.requires_grad == true));
        return [new Sums(states, weight, bias, documents).All(activates)];
    }

    protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients)
    {
        var tensors = context.get_saved_variables();
        var saved = (Saved)context.get_data("saved");
        var sums = new Sums(tensors[0], tensors[1], saved.HasBias ? tensors[2] : null, saved.HasDocuments ? tensors[^1] : null);
        var (input, weight, bias) = sums.Gradients(gradients[0], saved.Activates, saved.WantsInput, saved.WantsWeight);
        return [input, weight, bias, null, null];
    }

    private sealed record Saved(bool HasBias, bool HasDocuments, bool Activates, bool WantsInput, bool WantsWeight);

    /// <summary>The sums of some inputs and their gradients, without autograd.</summary>
    private sealed class Sums
    {
        private readonly Tensor _inputs;
        private readonly Tensor? _documents;
        private readonly Tensor[] _taps;
        private readonly Tensor? _bias;
        private readonly ScalarType _sum;
        private readonly long _tokens;
        private readonly long _block;
        private readonly (Tensor Weight, Tensor? Bias) _given;

        internal Sums(Tensor inputs, Tensor weight, Tensor? bias, Tensor? documents)
        {
            (_inputs, _documents, _given) = (inputs, documents, (weight, bias));
            _sum = inputs.dtype is ScalarType.BFloat16 or ScalarType.Float16 ? float32 : inputs.dtype;
            _bias = bias?.detach().to(_sum);

            // Of the token itself first, then of the token before it, and so on.
            var wide = weight.detach().to(_sum);
            _taps = [.. Enumerable.Range(0, (int)weight.size(2)).Select(i => wide.select(2, weight.size(2) - 1 - i).reshape(-1))];
            _tokens = inputs.size(1);
            _block = inputs.device.type == TorchSharp.DeviceType.CPU ? Math.Max(16, BlockElements / Math.Max(1, inputs.size(0) * inputs.size(2))) : _tokens;
        }

        internal Tensor All(bool activates)
        {
            using var nothing = no_grad();
            var output = empty(_inputs.shape, _inputs.dtype, _inputs.device);
            foreach (var (start, count) in Blocks())
            {
                using var scope = NewDisposeScope();
                var sum = Of(start, count);
                _ = output.narrow(1, start, count).copy_(activates ? nn.functional.silu(sum) : sum);
            }

            return output;
        }

        internal (Tensor? Input, Tensor? Weight, Tensor? Bias) Gradients(Tensor gradient, bool activates, bool wantsInput, bool wantsWeight)
        {
            using var nothing = no_grad();
            var input = wantsInput ? zeros(_inputs.shape, _sum, _inputs.device) : null;
            var taps = wantsWeight ? zeros([_taps.Length, _inputs.size(2)], _sum, _inputs.device) : null;
            var bias = wantsWeight && _bias is not null ? _bias.zeros_like() : null;
            foreach (var (start, count) in Blocks())
            {
                using var scope = NewDisposeScope();
                var given = gradient.narrow(1, start, count).to(_sum);
                given = activates ? OfSilu(Of(start, count), given) : given;
                _ = bias?.PlusInPlace(given.sum([0, 1]));
                for (var back = 0; back < _taps.Length; back++)
                {
                    Add(start, count, back, given, input, taps);
                }
            }

            return (input?.to(_inputs.dtype), taps is null ? null : Stored(taps), bias?.to(_given.Bias!.dtype));
        }

        private IEnumerable<(long Start, long Count)> Blocks()
        {
            for (long start = 0; start < _tokens; start += _block)
            {
                yield return (start, Math.Min(_block, _tokens - start));
            }
        }

        // The gradients by way of the input that is so many tokens back.
        private void Add(long start, long count, int back, Tensor given, Tensor? input, Tensor? taps)
        {
            var first = Math.Max(start, back);
            var reached = start + count - first;
            if (reached <= 0)
            {
                return;
            }

            var part = given.narrow(1, first - start, reached);
            part = back > 0 && _documents is not null ? part.mul(IsSame(first, reached, back)) : part;
            _ = input?.narrow(1, first - back, reached).addcmul_(part, _taps[back], Scalars.One);
            _ = taps?[back].PlusInPlace(part.mul(_inputs.narrow(1, first - back, reached)).sum([0, 1]));
        }

        private Tensor Of(long start, long count)
        {
            var sum = _inputs.narrow(1, start, count).to(_sum).mul(_taps[0]);
            for (var back = 1; back < _taps.Length; back++)
            {
                var first = Math.Max(start, back);
                var reached = start + count - first;
                if (reached > 0)
                {
                    var input = _inputs.narrow(1, first - back, reached).to(_sum);
                    input = _documents is null ? input : input.mul(IsSame(first, reached, back));
                    _ = sum.narrow(1, first - start, reached).addcmul_(input, _taps[back], Scalars.One);
                }
            }

            return _bias is null ? sum : sum.PlusInPlace(_bias);
        }

        private Tensor IsSame(long first, long count, int back) => _documents!.narrow(1, first, count).eq(_documents.narrow(1, first - back, count)).unsqueeze(-1);

        // As the weight is stored: [channels, 1, kernel], the token itself last.
        private Tensor Stored(Tensor taps) => taps.flip(0).t().unsqueeze(1).to(_given.Weight.dtype).contiguous();

        private static Tensor OfSilu(Tensor sum, Tensor gradient)
        {
            var open = sum.sigmoid();
            var closed = open.mul(sum).neg_().PlusInPlace(sum).add_(Scalars.One, Scalars.One);
            return closed.mul_(open).mul_(gradient);
        }
    }
}
