using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers.FeedForward;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Mixers;

/// <summary>
/// Linear attention by the gated delta rule (<see cref="DeltaRule"/>): queries, keys and values go through a short convolution, and the output
/// through a norm and a gate. With a decay of each head it is Gated DeltaNet (Yang et al., 2024), with one of each channel Kimi Delta Attention
/// (Moonshot AI, 2025).
/// </summary>
internal sealed class GatedDeltaNet : TokenMixer
{
    private const double LengthEpsilon = 1e-6;

    // Registered under the checkpoint's names, which differ among families, so they are not fields registered by field name.
    private readonly LinearLayer[] _inputs;
    private readonly LinearLayer[] _decay = [];
    private readonly LinearLayer[] _gate = [];
    private readonly (ShortConvolution Convolution, Norm Norm, LinearLayer Output) _parts;
    private readonly (Parameter Rate, Parameter Bias) _steps;
    private readonly GatedDeltaNetSettings _settings;
    private readonly RmsNormSettings _length;

    /// <summary>Creates the linear attention of a layer.</summary>
    /// <param name="settings">Settings of the mixer.</param>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="name">Name of the module in the checkpoint.</param>
    public GatedDeltaNet(GatedDeltaNetSettings settings, IWeightSource weights, string name)
        : base(nameof(GatedDeltaNet))
    {
        ArgumentNullException.ThrowIfNull(settings);
        ArgumentNullException.ThrowIfNull(weights);
        _settings = settings;
        _length = new RmsNormSettings(LengthEpsilon / settings.KeyWidth.Size);
        var hidden = new Dimension("hidden_size", settings.HiddenSize);
        var (keys, values, heads) = (settings.Keys, settings.Values, settings.ValueHeads);
        LinearLayer Layer(string layer, Dimension output, Dimension input) => this.Register(layer, LinearLayer.Take(weights, $"{name}.{layer}", output, input, hasBias: false));
        var mixed = new Dimension($"2 x {keys.Setting} + {values.Setting}", (2 * keys.Size) + values.Size);
        var convolution = this.Register("conv1d", ShortConvolution.Take(weights, $"{name}.conv1d", mixed, settings.Kernel, hasBias: false, activates: true));
        var isPerChannel = settings.Projections == DeltaProjections.PerChannel;
        switch (settings.Projections)
        {
            case DeltaProjections.ByHead:
                var all = new Dimension($"2 x ({keys.Setting} + {values.Setting})", 2 * (keys.Size + values.Size));
                _inputs = [Layer("in_proj_qkvz", all, hidden), Layer("in_proj_ba", new Dimension($"2 x {heads.Setting}", 2 * heads.Size), hidden)];
                break;
            case DeltaProjections.ByUse:
                _inputs = [Layer("in_proj_qkv", mixed, hidden), Layer("in_proj_z", values, hidden), Layer("in_proj_b", heads, hidden), Layer("in_proj_a", heads, hidden)];
                break;
            case DeltaProjections.Separate:
                _inputs =
                [
                    Layer("q_proj", keys, hidden), Layer("k_proj", keys, hidden), Layer("v_proj", values, hidden), Layer("g_proj", values, hidden), Layer("b_proj", heads, hidden),
                    Layer("a_proj", heads, hidden),
                ];
                break;
            default:
                var inner = settings.ValueWidth;
                _inputs =
                [
                    Layer("q_proj", keys, hidden), Layer("k_proj", keys, hidden), Layer("v_proj", values, hidden), Layer("g_a_proj", inner, hidden), Layer("b_proj", heads, hidden),
                    Layer("forget_gate.f_a_proj", inner, hidden),
                ];
                _decay = [Layer("forget_gate.f_b_proj", keys, inner)];
                _gate = [Layer("g_b_proj", values, inner)];
                break;
        }

        var one = new Dimension("1", 1);
        _steps = isPerChannel
            ? (Step("forget_gate.A_log", InitialWeight.DrawnDecayRates, one, one, heads, one), Step("forget_gate.dt_bias", InitialWeight.Ones, keys))
            : (Step("A_log", InitialWeight.DrawnDecayRates, heads), Step("dt_bias", settings.Projections == DeltaProjections.Separate ? InitialWeight.TimeSteps : InitialWeight.Ones, heads));
        var isPlain = settings.Projections is DeltaProjections.ByHead or DeltaProjections.ByUse;
        var (normName, outputName) = isPlain ? ("norm", "out_proj") : ("o_norm", "o_proj");
        var norm = this.Register(normName, new RmsNormSettings(settings.NormEpsilon).Take(weights, $"{name}.{normName}", settings.ValueWidth));
        _parts = (convolution, norm, Layer(outputName, hidden, values));

        Parameter Step(string parameter, InitialWeight initial, params ReadOnlySpan<Dimension> shape) => this.RegisterParameter(parameter, weights.Take($"{name}.{parameter}", initial, shape));
    }

    // The inputs of the convolution and of the delta rule, what it reads, the norm of that, and the gate; and, in float32, decays and betas.
    internal override KeptElements Kept
    {
        get
        {
            var (mixed, values, steps) = ((2 * _settings.Keys.Size) + _settings.Values.Size, _settings.Values.Size, _decay.Length > 0 ? _settings.Keys.Size : _settings.ValueHeads.Size);
            KeptInput[] inner = [.. _decay.Concat(_gate).Select(layer => new KeptInput([layer], layer.InFeatures, IsMadeAgain: false))];
            return new KeptElements(
                new TokenMemory((2 * mixed) + (3 * values), Floats: (2 * steps) + (2 * _settings.ValueHeads.Size)),
                [new KeptInput([_parts.Output], values, IsMadeAgain: false), new KeptInput(_inputs, _settings.HiddenSize, IsMadeAgain: true), .. inner],
                [Working(mixed, values, steps), TokenMemory.OfLinear(_settings.HiddenSize, mixed + values + (2 * _settings.ValueHeads.Size))]);
        }
    }

    // The rule's inputs and their gradients, those of queries and keys for each value head, and the matrices at the start of each chunk.
    private TokenMemory Working(long mixed, long values, long steps) => new(
        0, Floats: (2 * mixed) + (2 * _settings.ValueHeads.Size * _settings.KeyWidth.Size) + (values * _settings.KeyWidth.Size / DeltaRuleKernel.Chunk) + steps, Widened: mixed + (3 * values / 2));

    internal override LayerState NewState() => new DeltaState(_parts.Convolution.Kernel - 1);

    internal override long StateBytes(CachedTexts texts, long size) => texts.Rows * ((_parts.Convolution.StateElements * size) + (sizeof(float) * _settings.KeyWidth.Size * _settings.Values.Size));

    internal override Tensor Run(Tensor states, Norm? norm, LayerContext context)
    {
        using var scope = NewDisposeScope();
        var given = Project(states, norm);
        var (decay, beta) = Steps(given);
        var read = context.ByText([given.Mixed, decay, beta], 1, Read);
        var normed = _parts.Norm.call(read.to(states.dtype).contiguous());
        var gate = given.Gate.reshape(normed.shape);
        var output = _settings.Projections == DeltaProjections.PerChannel ? normed.mul(gate.sigmoid()) : GatedActivation.Of(gate, normed, Activation.Silu);
        return _parts.Output.call(output.view(states.size(0), states.size(1), -1)).MoveToOuterDisposeScope();
    }

    // What the delta rule reads of some tokens after those of a state: [batch, tokens, value heads, value width].
    private Tensor Read(IReadOnlyList<Tensor> given, LayerContext context)
    {
        var state = context.State as DeltaState;
        var mixed = _parts.Convolution.Run(given[0], context.Documents, state?.Convolution);
        if (ChunkedDeltaRule.Of(mixed, given[1], given[2], context.Documents, Inputs) is { } recorded)
        {
            return recorded;
        }

        var (read, end) = DeltaRule.Run(Inputs(mixed, given[1], given[2]), context.Documents, state?.Matrices(context.Documents));
        state?.Keep(end!, context.Documents);
        return read;
    }

    // What the projections give, in the caller's dispose scope.
    private Given Project(Tensor states, Norm? norm)
    {
        var parts = LinearLayer.Outputs(states, norm, _inputs);
        return _settings.Projections switch
        {
            DeltaProjections.ByHead => ByHead(parts[0], parts[1]),
            DeltaProjections.ByUse => new Given(parts[0], parts[1], parts[2], parts[3]),
            _ => new Given(
                cat([parts[0], parts[1], parts[2]], -1), _gate.Length > 0 ? _gate[0].call(parts[3]) : parts[3], parts[4], _decay.Length > 0 ? _decay[0].call(parts[5]) : parts[5]),
        };
    }

    // Each key head has its query, its key, and the values and gates of its value heads; and their betas and decays.
    private Given ByHead(Tensor all, Tensor steps)
    {
        var (batch, tokens, heads) = (all.size(0), all.size(1), _settings.KeyHeads.Size);
        var (key, group) = (_settings.KeyWidth.Size, _settings.ValueHeads.Size / heads);
        var values = group * _settings.ValueWidth.Size;
        var parts = all.view(batch, tokens, heads, -1).split([key, key, values, values], -1);
        var joined = cat([.. parts[..3].Select(p => p.reshape(batch, tokens, -1))], -1);
        var split = steps.view(batch, tokens, heads, 2 * group).split([group, group], -1);
        return new Given(joined, parts[3], split[0].reshape(batch, tokens, -1), split[1].reshape(batch, tokens, -1));
    }

    // The logarithms of the decays and the betas, by value head, in float32.
    private (Tensor Decay, Tensor Beta) Steps(Given given)
    {
        using Scalar two = 2.0;
        var beta = given.Beta.Widened().sigmoid().unsqueeze(-1);
        var steps = nn.functional.softplus(given.Decay.Widened().Plus(_steps.Bias.Widened())).unflatten(2, [_settings.ValueHeads.Size, -1]);
        return (steps.mul(_steps.Rate.Widened().exp().neg().view(-1, 1)), _settings.AllowsNegativeEigenvalues ? beta.mul(two) : beta);
    }

    // The delta rule's inputs, in float32.
    private DeltaInputs Inputs(Tensor mixed, Tensor decay, Tensor beta)
    {
        var width = _settings.KeyWidth.Size;
        var parts = mixed.Widened().split([_settings.Keys.Size, _settings.Keys.Size, _settings.Values.Size], -1);
        return new DeltaInputs(
            OfLength(parts[0].unflatten(2, [-1, width]).contiguous(), 1 / Math.Sqrt(width)), OfLength(parts[1].unflatten(2, [-1, width]).contiguous(), 1), parts[2].unflatten(2, [_settings.ValueHeads.Size, -1]), decay, beta);
    }

    // Scales each row to a length: an RMS norm of equal weights.
    private Tensor OfLength(Tensor rows, double length)
    {
        using Scalar weight = length / Math.Sqrt(rows.size(-1));
        using Scalar epsilon = _length.Epsilon;
        var scale = full([rows.size(-1)], weight, rows.dtype, rows.device);
        return FusedRmsNorm.Serves(rows, scale)
            ? FusedRmsNorm.Of(rows, scale, _length)
            : rows.mul(rows.mul(rows).mean([-1], keepdim: true).add(epsilon, Scalars.One).rsqrt().mul(weight));
    }

    private sealed record Given(Tensor Mixed, Tensor Gate, Tensor Beta, Tensor Decay);
}

/// <summary>State of linear attention: the last inputs of its convolution, and the matrix of each head.</summary>
/// <param name="inputs">How many inputs the convolution needs.</param>
internal sealed class DeltaState(int inputs) : LayerState
{
    private Tensor? _matrices;
    private Tensor? _document;

    /// <inheritdoc/>
    public override long ByteLength => Convolution.ByteLength + (_matrices is { } held ? held.numel() * held.element_size() : 0);

    /// <summary>The convolution's part.</summary>
    internal ConvolutionState Convolution { get; } = new(inputs);

    /// <summary>The matrices before the next tokens, in the caller's dispose scope; null for zeros.</summary>
    /// <param name="documents">Document of each of the next tokens, [batch, tokens], or null.</param>
    internal Tensor? Matrices(Tensor? documents) =>
        _matrices is null || _document is null || documents is null ? _matrices?.alias() : _matrices.mul(documents.narrow(1, 0, 1).eq(_document).view(-1, 1, 1, 1));

    /// <summary>Keeps the matrices after the processed tokens.</summary>
    /// <param name="matrices">[batch, value heads, key width, value width].</param>
    /// <param name="documents">Document of each of the tokens, [batch, tokens], or null.</param>
    internal void Keep(Tensor matrices, Tensor? documents)
    {
        _matrices?.Dispose();
        _matrices = matrices.alias().DetachFromDisposeScope();
        if (documents is not null)
        {
            _document?.Dispose();
            _document = documents.narrow(1, documents.size(1) - 1, 1).clone().DetachFromDisposeScope();
        }
    }

    // What was read cannot be taken out of the matrices.
    internal override bool CanTruncate(int length) => false;

    internal override void Truncate(int length) => throw new InvalidOperationException("what was read cannot be taken out of the matrices");

    internal override void Select(long[] rows)
    {
        Convolution.Select(rows);
        (_matrices, _document) = (Chosen(_matrices, rows), Chosen(_document, rows));
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        Convolution.Dispose();
        _matrices?.Dispose();
        _document?.Dispose();
        (_matrices, _document) = (null, null);
    }
}
