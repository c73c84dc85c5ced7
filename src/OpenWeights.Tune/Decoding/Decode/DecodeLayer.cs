using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Decoding.Decode;

/// <summary>One layer of a decode step, in stages that threads compute together.</summary>
internal sealed unsafe class DecodeLayer
{
    /// <summary>Number of stages.</summary>
    internal const int Stages = 9;

    /// <summary>Builds a layer's decode step for a few rows; null if one of its modules is not supported.</summary>
    /// <param name="layer">The layer.</param>
    /// <param name="number">Layer index, for the cache.</param>
    /// <param name="config">Config of the decoder.</param>
    /// <param name="rows">Number of rows.</param>
    /// <param name="dtype">Data type of the model.</param>
    /// <param name="rope">The rotary table; null for a layer without rotary embedding.</param>
    internal static DecodeLayer? Of(DecoderLayer layer, int number, DecoderConfig config, int rows, ScalarType dtype, DecodeRope? rope)
    {
        var attention = layer.Attention;
        if (layer.FeedForward is not { } feedForward || !GateKernel.Serves(config.Activation)
            || DecodeProducts.Of(rows, dtype, attention.QueryKeyValue) is not { } heads || DecodeProducts.Of(rows, dtype, attention.Output) is not { } output
            || DecodeProducts.Of(rows, dtype, feedForward.GateAndUp) is not { } gateAndUp || DecodeProducts.Of(rows, dtype, feedForward.Down) is not { } down)
        {
            return null;
        }

        var shape = new DecodeHeads(number, config.HeadCount, config.KeyValueHeadCount, config.HeadDimension);
        (DecodeNorm, DecodeNorm, bool)? headNorms = attention.Norms is var (query, key, ofAllHeads) ? (DecodeNorm.Of(query), DecodeNorm.Of(key), ofAllHeads) : null;
        var norms = layer.Norms;
        return new DecodeLayer
        {
            Before = Norm(norms.BeforeAttention),
            Heads = heads,
            Attention = new DecodeAttention(shape, headNorms, rope, (float)config.AttentionScale, (float?)config.ScoreSoftCap),
            Output = output,
            AfterAttention = Norm(norms.AfterAttention),
            BeforeFeedForward = Norm(norms.BeforeFeedForward),
            GateAndUp = gateAndUp,
            Down = down,
            Activation = config.Activation,
            AfterFeedForward = Norm(norms.AfterFeedForward),
            Residual = (float)config.ResidualMultiplier,
        };

        static DecodeNorm? Norm(RmsNorm? norm) => norm is null ? null : DecodeNorm.Of(norm);
    }

    /// <summary>Norm before attention; null for none.</summary>
    internal required DecodeNorm? Before { get; init; }

    /// <summary>Query, key and value projections.</summary>
    internal required DecodeProducts Heads { get; init; }

    /// <summary>Attention.</summary>
    internal required DecodeAttention Attention { get; init; }

    /// <summary>Output projection of attention.</summary>
    internal required DecodeProducts Output { get; init; }

    /// <summary>Norm after attention; null for none.</summary>
    internal required DecodeNorm? AfterAttention { get; init; }

    /// <summary>Norm before the feed-forward block; null for none.</summary>
    internal required DecodeNorm? BeforeFeedForward { get; init; }

    /// <summary>Gate and up projections.</summary>
    internal required DecodeProducts GateAndUp { get; init; }

    /// <summary>Down projection.</summary>
    internal required DecodeProducts Down { get; init; }

    /// <summary>Activation function.</summary>
    internal required Activation Activation { get; init; }

    /// <summary>Norm after the feed-forward block; null for none.</summary>
    internal required DecodeNorm? AfterFeedForward { get; init; }

    /// <summary>Factor of a block's output in the residual stream.</summary>
    internal required float Residual { get; init; }

    private nint Inner => GateAndUp.Columns / 2;

    /// <summary>Number of parts a stage is split into.</summary>
    internal int Parts(int stage, DecodeState state) => stage switch
    {
        0 => Heads.InnerParts(state.Threads),
        1 => Heads.Parts(Heads.Columns, state.Threads),
        2 => Attention.Parts(state),
        3 => Output.InnerParts(state.Threads),
        4 => Output.Parts(Output.Columns, state.Threads),
        5 => GateAndUp.InnerParts(state.Threads),
        6 => GateAndUp.Parts(GateAndUp.Columns, state.Threads),
        7 => Down.InnerParts(state.Threads),
        _ => Down.Parts(Down.Columns, state.Threads),
    };

    /// <summary>Computes a part of a stage.</summary>
    internal void Run(int stage, int part, DecodeState state)
    {
        var parts = Parts(stage, state);
        switch (stage)
        {
            case 0:
                Heads.RunInner(part, parts, state.Normed);
                break;
            case 1:
                Heads.Run(Heads.Columns * part / parts, Heads.Columns * (part + 1) / parts, state.Normed, state.Heads);
                break;
            case 2:
                Attention.Attend(state, part, parts);
                break;
            case 3:
                Output.RunInner(part, parts, state.Mixed);
                break;
            case 4:
                Output.Run(Output.Columns * part / parts, Output.Columns * (part + 1) / parts, state.Mixed, state.Given);
                break;
            case 5:
                GateAndUp.RunInner(part, parts, state.Normed);
                break;
            case 6:
                Gate(Inner * part / parts, Inner * (part + 1) / parts, state);
                break;
            case 7:
                Down.RunInner(part, parts, state.Gated);
                break;
            default:
                Down.Run(Down.Columns * part / parts, Down.Columns * (part + 1) / parts, state.Gated, state.Given);
                break;
        }
    }

    /// <summary>Sequential work after a stage, done by one thread.</summary>
    internal void Finish(int stage, DecodeState state)
    {
        if (stage == 1)
        {
            Attention.Turn(state);
        }
        else if (stage == 4)
        {
            Add(AfterAttention, state);
            Normalise(BeforeFeedForward, state);
        }
        else if (stage == Stages - 1)
        {
            Add(AfterFeedForward, state);
        }
    }

    /// <summary>Computes the normalized input of the next projections from the residual stream.</summary>
    internal static void Normalise(DecodeNorm? norm, DecodeState state)
    {
        var (states, normed) = (state.States, state.Normed);
        for (nint row = 0; row < states.Count; row++)
        {
            if (norm is null)
            {
                new Span<float>(states[row], (int)states.Stride).CopyTo(new Span<float>(normed[row], (int)states.Stride));
            }
            else
            {
                norm.Apply(states[row], normed[row], state.Half);
            }
        }
    }

    private void Gate(nint first, nint last, DecodeState state)
    {
        GateAndUp.Run(first, last, state.Normed, state.Gated);
        GateAndUp.Run(Inner + first, Inner + last, state.Normed, state.Gated);
        for (nint row = 0; row < state.RowCount; row++)
        {
            var gate = state.Gated[row] + first;
            DecodeMath.Gate(gate, gate + Inner, last - first, Activation, state.Half);
        }
    }

    private void Add(DecodeNorm? norm, DecodeState state)
    {
        var (states, given) = (state.States, state.Given);
        for (nint row = 0; row < states.Count; row++)
        {
            norm?.Apply(given[row], given[row], state.Half);
            DecodeMath.Add(states[row], given[row], Residual, states.Stride, state.Half);
        }
    }
}
