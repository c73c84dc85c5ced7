using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Mixers;

/// <summary>Several mixers that read the same normalised states; their outputs are added (Falcon-H1: attention beside Mamba-2).</summary>
internal sealed class ParallelMixer : TokenMixer
{
    private readonly List<Branch> _branches = [];

    /// <summary>Creates the mixer of a layer.</summary>
    /// <param name="settings">Settings of the mixer.</param>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="name">Name of the layer in the checkpoint; the mixers are modules of the layer.</param>
    public ParallelMixer(ParallelMixerSettings settings, IWeightSource weights, string name)
        : base(nameof(ParallelMixer))
    {
        ArgumentNullException.ThrowIfNull(settings);
        foreach (var branch in settings.Branches)
        {
            var mixer = branch.Mixer.Make(weights, $"{name}.{branch.Mixer.ModuleName}");
            register_module(branch.Mixer.ModuleName, mixer);
            _branches.Add(new Branch(mixer, Factor(branch.InputMultiplier), Factor(branch.OutputMultiplier)));
        }

        static Scalar? Factor(double factor) => factor == 1 ? null : (Scalar)factor;
    }

    // Where a mixer's input is multiplied, it is kept, and not the states that it can be computed from.
    internal override KeptElements Kept
    {
        get
        {
            var kept = _branches.ConvertAll(static b => b.Mixer.Kept);
            return new KeptElements(
                kept.Select(static k => k.Always).Aggregate(static (a, b) => a + b), [.. kept.SelectMany(static k => k.Inputs)], [.. kept.SelectMany(static k => k.Working)],
                kept.Sum(static k => k.Mixed), rows => kept.Sum(k => k.OfRows?.Invoke(rows) ?? 0));
        }
    }

    internal override LayerState NewState() => new ParallelState([.. _branches.Select(static b => b.Mixer.NewState())]);

    internal override long StateBytes(CachedTexts texts, long size) => _branches.Sum(b => b.Mixer.StateBytes(texts, size));

    internal override Tensor Run(Tensor states, Norm? norm, LayerContext context)
    {
        using var scope = NewDisposeScope();
        Tensor? sum = null;
        foreach (var (index, branch) in _branches.Index())
        {
            var own = Own(context, index);
            var output = branch.Input is null
                ? branch.Mixer.Run(states, norm, own.ForValues)
                : branch.Mixer.Run((norm?.call(states) ?? states).mul(branch.Input), null, own.ForValues);
            if (branch.Output is not null)
            {
                output = output.mul(branch.Output);
            }

            sum = sum is null ? output : sum.add(output, Kernels.Scalars.One);
        }

        return sum!.MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            foreach (var branch in _branches)
            {
                branch.Input?.Dispose();
                branch.Output?.Dispose();
            }
        }

        base.Dispose(disposing);
    }

    // The context of a branch, with its part of the state.
    private static LayerContext Own(LayerContext context, int branch) => context with
    {
        State = (context.State as ParallelState)?.Parts[branch],
        Texts = context.Texts?.Select(t => Own(t, branch)).ToList(),
    };

    private sealed record Branch(TokenMixer Mixer, Scalar? Input, Scalar? Output);
}

/// <summary>Settings of several mixers side by side.</summary>
internal sealed record ParallelMixerSettings : MixerSettings
{
    /// <inheritdoc/>
    public override string ModuleName { get; init; } = "";

    /// <summary>The mixers.</summary>
    public required IReadOnlyList<MixerBranch> Branches { get; init; }

    internal override MixerNeeds Needs => Branches.Select(static b => b.Mixer.Needs).Aggregate(static (a, b) => (a.Looks ? a : b) with { Restarts = a.Restarts || b.Restarts });

    internal override TokenMixer Make(IWeightSource weights, string name) => new ParallelMixer(this, weights, name);
}

/// <summary>One of several mixers.</summary>
/// <param name="Mixer">The mixer.</param>
/// <param name="InputMultiplier">Factor of its input.</param>
/// <param name="OutputMultiplier">Factor of its output.</param>
internal sealed record MixerBranch(MixerSettings Mixer, double InputMultiplier = 1, double OutputMultiplier = 1);

/// <summary>The states of several mixers.</summary>
/// <param name="parts">The states.</param>
internal sealed class ParallelState(IReadOnlyList<LayerState> parts) : LayerState
{
    /// <inheritdoc/>
    public override long ByteLength => parts.Sum(static p => p.ByteLength);

    /// <summary>The states, in the order of the mixers.</summary>
    internal IReadOnlyList<LayerState> Parts => parts;

    internal override bool CanTruncate(int length) => parts.All(p => p.CanTruncate(length));

    internal override void Truncate(int length)
    {
        foreach (var part in parts)
        {
            part.Truncate(length);
        }
    }

    internal override void Select(long[] rows)
    {
        foreach (var part in parts)
        {
            part.Select(rows);
        }
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        foreach (var part in parts)
        {
            part.Dispose();
        }
    }
}
