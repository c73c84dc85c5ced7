using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Decoding.Decode;

/// <summary>A part of a layer with its norms: norm, part, norm, addition to the residual stream.</summary>
/// <param name="layer">Index of the layer.</param>
/// <param name="before">Norm of the part's input; null for none.</param>
/// <param name="part">The part.</param>
/// <param name="after">Norm of the part's output; null for none.</param>
/// <param name="residual">Factor of the output before it is added to the residual stream.</param>
/// <param name="parallel">Whether the part is one of two parallel parts, and which.</param>
internal sealed unsafe class DecodeBlock(int layer, DecodeNorm? before, IDecodePart part, DecodeNorm? after, float residual, DecodeParallel parallel)
{
    /// <summary>The part.</summary>
    internal IDecodePart Part => part;

    /// <summary>Norm of the part's input; null for none.</summary>
    internal DecodeNorm? Before => before;

    /// <summary>The blocks of a layer; null if a part or norm is not supported.</summary>
    /// <param name="layer">The layer.</param>
    /// <param name="number">Index of the layer, for the cache.</param>
    /// <param name="plan">Creates the parts.</param>
    internal static IReadOnlyList<DecodeBlock>? Of(DecoderLayer layer, int number, DecodePlan plan)
    {
        (Norm? Before, LayerPart Part, Norm? After)?[] blocks =
        [
            layer.Mixer is { } mixer ? (mixer.Before, mixer.Part, mixer.After) : null,
            layer.FeedForward is { } feedForward ? (feedForward.Before, feedForward.Part, feedForward.After) : null,
        ];
        var isParallel = layer.Settings.IsParallel && Array.TrueForAll(blocks, static b => b is not null);
        var made = new List<DecodeBlock>();
        foreach (var block in blocks)
        {
            if (block is not var (before, part, after))
            {
                continue;
            }

            if (!layer.HasTwoParts || plan.Part(part) is not { } found || !TryNorm(before, out var first) || !TryNorm(after, out var last))
            {
                return null;
            }

            made.Add(new DecodeBlock(number, first, found, last, (float)layer.Settings.ResidualMultiplier, !isParallel ? DecodeParallel.None : made.Count == 0 ? DecodeParallel.First : DecodeParallel.Second));
        }

        return made;

        static bool TryNorm(Norm? norm, out DecodeNorm? found)
        {
            found = norm is null ? null : DecodeNorm.Of(norm);
            return norm is null || found is not null;
        }
    }

    /// <summary>Starts a step with one token per row.</summary>
    /// <param name="state">Buffers of the step.</param>
    internal void Begin(DecodeState state) => part.Begin(state, layer);

    /// <summary>Computes the input of a part from the residual stream of a row.</summary>
    internal static void Normalise(DecodeNorm? norm, DecodeState state, nint row)
    {
        var (states, normed) = (state.States, state.Normed);
        if (norm is null)
        {
            new Span<float>(states[row], (int)states.Stride).CopyTo(new Span<float>(normed[row], (int)states.Stride));
        }
        else
        {
            norm.Apply(states[row], normed[row], state.Half);
        }
    }

    /// <summary>Adds the part's output to the residual stream of a row.</summary>
    internal void Add(DecodeState state, nint row)
    {
        var (states, given) = (state.States, state.Given);
        after?.Apply(given[row], given[row], state.Half);
        if (parallel == DecodeParallel.First)
        {
            // The second part still reads the residual stream without it.
            new Span<float>(given[row], (int)states.Stride).CopyTo(new Span<float>(state.Aside[row], (int)states.Stride));
            return;
        }

        if (parallel == DecodeParallel.Second)
        {
            DecodeMath.Add(states[row], state.Aside[row], residual, states.Stride, state.Half);
        }

        DecodeMath.Add(states[row], given[row], residual, states.Stride, state.Half);
    }
}

/// <summary>Whether a part is one of two that read the same residual stream.</summary>
internal enum DecodeParallel
{
    /// <summary>It is not.</summary>
    None,

    /// <summary>It is the first.</summary>
    First,

    /// <summary>It is the second.</summary>
    Second,
}
