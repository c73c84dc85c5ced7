using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Projections;
using OpenWeights.Tune.Models;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>
/// A low-rank update of a linear layer, computed in the adapter's float32: s B A x (LoRA; Hu et al., 2021). With a magnitude per output,
/// the direction of W + s B A scaled to that magnitude (DoRA; Liu et al., 2024). With an initialization from the weight itself,
/// s (B A - B0 A0) x (PiSSA; Meng et al., 2024, and others), which leaves the base weight unchanged. With singular values between A and B,
/// s B diag(d) A on a weight without its smallest singular values (KaSA). A or B may be block-diagonal (BD-LoRA), and the update may apply to some
/// tokens only (aLoRA). While it is only s B A x, <see cref="ProjectionGroup"/> computes it together with the layer, forward and backward;
/// <see cref="Apply"/> composes the other kinds.
/// </summary>
internal sealed class LoraLayer : AdapterPart, ILinearAdapter
{
    // Elements of the weight whose row norms are computed at once.
    private const long PartElements = 1 << 22;

    private readonly Scalar _scale;
    private readonly (Tensor A, Tensor B)? _start;
    private readonly BlockDiagonal? _blocks;
    private bool _training;
    private Tensor? _norms;

    internal LoraLayer(string module, LinearLayer target, LoraWeights weights, double scale, double dropout)
        : base(module)
    {
        Target = target;
        A = new Parameter(weights.A);
        B = new Parameter(weights.B, requires_grad: weights.TrainsB);
        Diagonal = weights.Diagonal is null ? null : new Parameter(weights.Diagonal);
        _blocks = weights.Blocks;
        OutputBias = weights.OutputBias is null ? null : new Parameter(weights.OutputBias);
        Magnitude = weights.Magnitude is null ? null : new Parameter(weights.Magnitude);
        _start = weights.Start;
        Scale = scale;
        _scale = scale;
        Dropout = dropout;
    }

    /// <summary>The adapted layer.</summary>
    public LinearLayer Target { get; }

    /// <summary>Matrix A (down projection), [rank, in]; if it is block-diagonal, its blocks, [rank, in / blocks].</summary>
    public Parameter A { get; }

    /// <summary>Matrix B (up projection), [out, rank]; if it is block-diagonal, its blocks, [out, rank / blocks].</summary>
    public Parameter B { get; }

    /// <summary>KaSA's singular values between A and B, [rank]; null for none.</summary>
    public Parameter? Diagonal { get; }

    /// <summary>The tokens to which the update applies; null for all.</summary>
    internal InvocationTokens? Invocation { get; init; }

    /// <summary>lora_bias, added to B A x, [out]; null for none.</summary>
    public Parameter? OutputBias { get; }

    /// <summary>DoRA magnitude of each output, [out]; null for plain LoRA.</summary>
    public Parameter? Magnitude { get; }

    /// <summary>
    /// The plain update s B A, if the adapter currently computes only that: no magnitude, no initialization that changes the weight, no bias, no dropout.
    /// </summary>
    LowRankUpdate? ILinearAdapter.PlainUpdate =>
        Magnitude is null && _start is null && OutputBias is null && Diagonal is null && _blocks is null && Invocation is null && A.dtype == WideNumbers.Of(A.dtype) && !(_training && Dropout > 0)
            ? new LowRankUpdate(A, B, (float)Scale)
            : null;

    /// <summary>Whether the update is relative to initial matrices, s (B A - B0 A0).</summary>
    public bool HasStart => _start is not null;

    /// <summary>Whether the update is more than s B A with stored A and B.</summary>
    internal bool IsComposed => _start is not null || Diagonal is not null || _blocks is not null || Invocation is not null;

    /// <summary>Scaling factor s.</summary>
    public double Scale { get; }

    /// <summary>Dropout probability while training.</summary>
    public double Dropout { get; }

    /// <inheritdoc/>
    public override IEnumerable<(string Name, Parameter Parameter)> Parameters
    {
        get
        {
            return Stored.Where(static p => p.Parameter.requires_grad);
        }
    }

    // All parameters, of which B may not be trained.
    private IEnumerable<(string Name, Parameter Parameter)> Stored
    {
        get
        {
            yield return ($"{Module}.lora_A.weight", A);
            yield return ($"{Module}.lora_B.weight", B);
            if (Diagonal is not null)
            {
                yield return ($"{Module}.lora_diag", Diagonal);
            }

            if (OutputBias is not null)
            {
                yield return ($"{Module}.lora_B.bias", OutputBias);
            }

            if (Magnitude is not null)
            {
                yield return ($"{Module}.lora_magnitude_vector", Magnitude);
            }
        }
    }

    /// <inheritdoc/>
    public override IEnumerable<string> ChangedTensors => OutputBias is null ? [$"{Module}.weight"] : [$"{Module}.weight", $"{Module}.bias"];

    /// <inheritdoc/>
    internal override bool Enabled
    {
        get => Target.Adapter == this;
        set => Target.Adapter = value ? this : null;
    }

    /// <inheritdoc/>
    internal override bool Training
    {
        set
        {
            _training = value;
            ForgetNorms();
        }
    }

    /// <inheritdoc/>
    public Tensor Apply(LinearLayer layer, Tensor input, Tensor output)
    {
        ArgumentNullException.ThrowIfNull(layer);
        ArgumentNullException.ThrowIfNull(input);
        ArgumentNullException.ThrowIfNull(output);
        using var scope = NewDisposeScope();
        var states = input.to(A.dtype);
        var dropped = _training && Dropout > 0 ? nn.functional.dropout(states, Dropout, training: true) : states;
        var update = nn.functional.linear(nn.functional.linear(dropped, Down()), Up(), OutputBias).mul(_scale);
        if (_start is { } start)
        {
            update = update.sub(nn.functional.linear(nn.functional.linear(states, start.A), start.B).mul(_scale));
        }

        if (Invocation is not null)
        {
            update = InvocationTokens.Masked(update, Module);
        }

        if (Magnitude is null)
        {
            return output.Plus(update).to(output.dtype).MoveToOuterDisposeScope();
        }

        // (m/n - 1) W x + (m/n) s B A x is added to W x + b, with the norm n treated as a constant (section 4.3 of the paper).
        var weightPart = !ReferenceEquals(dropped, states) ? layer.Plain(dropped.to(input.dtype), null)
            : layer.Bias is { } bias ? output.sub(bias)
            : output;
        var ratio = Magnitude.div(Norms(layer));
        return output.sub(weightPart).Plus(ratio.mul(update.Plus(weightPart))).to(output.dtype).MoveToOuterDisposeScope();
    }

    /// <summary>The change of the weight without the DoRA magnitude, s B A or s (B A - B0 A0), [out, in], in float32.</summary>
    public Tensor Delta()
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var product = Up().mm(Down());
        if (_start is { } start)
        {
            product = product.sub(start.B.mm(start.A));
        }

        return product.mul(_scale).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public override Tensor Merged(string tensor, Tensor weight)
    {
        ArgumentNullException.ThrowIfNull(weight);
        if (Invocation is not null)
        {
            throw new InvalidDataException($"{Module}: an adapter with alora_invocation_tokens applies to some tokens only and cannot be merged; export it with --format peft.");
        }

        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        if (OutputBias is not null && tensor == $"{Module}.bias")
        {
            return weight.Plus(OutputBias.to(weight.device).mul(_scale)).MoveToOuterDisposeScope();
        }

        var merged = weight.Plus(Delta().to(weight.device));
        if (Magnitude is not null)
        {
            merged = merged.mul(Magnitude.to(weight.device).div(merged.norm(1)).unsqueeze(1));
        }

        return merged.MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    /// <remarks>With PiSSA and its like the file contains PEFT's conversion: [A; A0] and [B, -B0], a LoRA of twice the rank for the unmodified
    /// base model. KaSA's start is found again from the base.</remarks>
    internal override IEnumerable<(string Name, Tensor Tensor)> FileTensors()
    {
        using var nothing = no_grad();
        return _start is not { } start || Diagonal is not null ? Stored.Select(static p => (p.Name, (Tensor)p.Parameter)) :
        [
            .. Stored.Select(p => (p.Name, ReferenceEquals(p.Parameter, A) ? cat([A, start.A])
                : ReferenceEquals(p.Parameter, B) ? cat([B, start.B.neg()], 1)
                : (Tensor)p.Parameter)),
        ];
    }

    /// <inheritdoc/>
    internal override void Restore(Func<string, Tensor> read)
    {
        ForgetNorms();
        using var scope = NewDisposeScope();
        if (_start is not { } start || Diagonal is not null)
        {
            foreach (var (name, parameter) in Stored)
            {
                _ = parameter.copy_(read(name));
            }

            return;
        }

        var rank = A.size(0);
        var (a, b) = (read($"{Module}.lora_A.weight"), read($"{Module}.lora_B.weight"));
        _ = A.copy_(a.narrow(0, 0, rank));
        _ = start.A.copy_(a.narrow(0, rank, rank));
        _ = B.copy_(b.narrow(1, 0, rank));
        _ = start.B.copy_(b.narrow(1, rank, rank).neg());
    }

    /// <summary>Norm of each row of W + s B A, [out], treated as a constant in the backward pass.</summary>
    /// <param name="layer">The layer with W.</param>
    /// <param name="a">Matrix A.</param>
    /// <param name="b">Matrix B.</param>
    /// <param name="scale">Scaling factor s.</param>
    internal static Tensor RowNorms(LinearLayer layer, Tensor a, Tensor b, Scalar scale)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var norms = empty([layer.OutFeatures], a.dtype, a.device);
        var most = layer.Quantized?.PartRows ?? Math.Max(1, PartElements / layer.InFeatures);
        for (long start = 0; start < layer.OutFeatures; start += most)
        {
            using var inner = NewDisposeScope();
            var count = Math.Min(most, layer.OutFeatures - start);
            var rows = layer.DenseRows(start, count).add(b.narrow(0, start, count).mm(a), scale);
            _ = norms.narrow(0, start, count).copy_(rows.norm(1));
        }

        return norms.MoveToOuterDisposeScope();
    }

    /// <summary>The start A0 and B0; null for none.</summary>
    internal (Tensor A, Tensor B)? Start => _start;

    /// <summary>A, [rank, in], with zeros outside of its blocks; gradients pass.</summary>
    internal Tensor Down() => _blocks is { IsA: true } ? _blocks.Whole(A) : A;

    /// <summary>B times the singular values, [out, rank], with zeros outside of its blocks; gradients pass.</summary>
    internal Tensor Up()
    {
        var b = _blocks is { IsA: false } ? _blocks.Whole(B) : B;
        return Diagonal is null ? b : b.mul(Diagonal);
    }

    private protected override void Dispose(bool disposing)
    {
        if (!disposing)
        {
            return;
        }

        A.Dispose();
        B.Dispose();
        Diagonal?.Dispose();
        OutputBias?.Dispose();
        Magnitude?.Dispose();
        _start?.A.Dispose();
        _start?.B.Dispose();
        _scale.Dispose();
        ForgetNorms();
    }

    // The norms are constant while nothing is trained; generation would otherwise recompute them for every token.
    private Tensor Norms(LinearLayer layer)
    {
        if (_training || is_grad_enabled())
        {
            ForgetNorms();
            return RowNorms(layer, A, B, _scale);
        }

        return _norms ??= RowNorms(layer, A, B, _scale).DetachFromDisposeScope();
    }

    private void ForgetNorms()
    {
        _norms?.Dispose();
        _norms = null;
    }
}
