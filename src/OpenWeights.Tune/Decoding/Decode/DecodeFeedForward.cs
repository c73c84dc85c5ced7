using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers.FeedForward;

namespace OpenWeights.Tune.Decoding.Decode;

/// <summary>Feed-forward with a gate, Wd (act(Wg x) · Wu x), or without, Wd act(Wu x).</summary>
/// <param name="gateAndUp">The gate and up projections, or only the latter.</param>
/// <param name="down">The down projection.</param>
/// <param name="activation">The activation.</param>
/// <param name="isGated">Whether there is a gate.</param>
internal sealed unsafe class DecodeFeedForward(DecodeProducts gateAndUp, DecodeProducts down, Activation activation, bool isGated) : IDecodePart
{
    private readonly nint _inner = isGated ? gateAndUp.Columns / 2 : gateAndUp.Columns;

    /// <inheritdoc/>
    public int Stages => 4;

    /// <inheritdoc/>
    public IReadOnlyList<nint> Widths => [gateAndUp.Columns];

    /// <summary>The feed-forward of a module; null if its activation or a projection is not supported.</summary>
    internal static DecodeFeedForward? Of(GatedFeedForward module, DecodePlan plan) =>
        module.Settings.GateSparsity == 0 && DecodeMath.Serves(module.Settings.Activation) && plan.Products(module.GateAndUp) is { } gateAndUp && plan.Products(module.Down) is { } down
            ? new DecodeFeedForward(gateAndUp, down, module.Settings.Activation, isGated: true)
            : null;

    /// <summary>The feed-forward of a module without a gate; null if its activation or a projection is not supported.</summary>
    internal static DecodeFeedForward? Of(PlainFeedForward module, DecodePlan plan) =>
        !module.Settings.LearnsActivation && DecodeMath.Serves(module.Settings.Activation) && plan.Products(module.Up) is { } up && plan.Products(module.Down) is { } down
            ? new DecodeFeedForward(up, down, module.Settings.Activation, isGated: false)
            : null;

    /// <inheritdoc/>
    public void Begin(DecodeState state, int layer)
    {
        // It has no state.
    }

    /// <inheritdoc/>
    public int Parts(int stage, DecodeState state) => stage switch
    {
        0 => gateAndUp.InnerParts(state.Threads),
        1 => gateAndUp.Parts(gateAndUp.Columns, state.Threads),
        2 => down.InnerParts(state.Threads),
        _ => down.Parts(down.Columns, state.Threads),
    };

    /// <inheritdoc/>
    public void Run(int stage, int part, DecodeState state)
    {
        var parts = Parts(stage, state);
        switch (stage)
        {
            case 0:
                gateAndUp.RunInner(part, parts, state.Normed);
                break;
            case 1:
                Gate(_inner * part / parts, _inner * (part + 1) / parts, state);
                break;
            case 2:
                down.RunInner(part, parts, Gated(state));
                break;
            default:
                down.Run(down.Columns * part / parts, down.Columns * (part + 1) / parts, Gated(state), state.Given);
                break;
        }
    }

    /// <inheritdoc/>
    public bool Fetch(int stage, int thread, int threads) => stage switch
    {
        1 => gateAndUp.Fetch(0, _inner, (thread, threads)) && (!isGated || gateAndUp.Fetch(_inner, _inner, (thread, threads))),
        3 => down.Fetch(0, down.Columns, (thread, threads)),
        _ => false,
    };

    /// <inheritdoc/>
    public void Finish(int stage, DecodeState state)
    {
        // There is nothing to do between stages.
    }

    // Gate and up; later act(gate) · up in place of the gate. Without a gate up, and later act(up).
    private FloatRows Gated(DecodeState state) => state.Work(0, gateAndUp.Columns);

    private void Gate(nint first, nint last, DecodeState state)
    {
        var gated = Gated(state);
        gateAndUp.Run(first, last, state.Normed, gated);
        if (!isGated)
        {
            for (nint row = 0; row < state.RowCount; row++)
            {
                DecodeMath.Activate(gated[row] + first, last - first, activation, state.Half);
            }

            return;
        }

        gateAndUp.Run(_inner + first, _inner + last, state.Normed, gated);
        for (nint row = 0; row < state.RowCount; row++)
        {
            var gate = gated[row] + first;
            DecodeMath.Gate(gate, gate + _inner, last - first, activation, state.Half);
        }
    }
}
