using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Rope;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>The inputs of layers in a forward pass besides the states. Layers with the same needs share rotary tables and masks.</summary>
internal sealed class LayerContexts(ModelInput input, ScalarType dtype)
{
    private readonly Dictionary<(RopeConfig Rope, int Width), (Tensor Cos, Tensor Sin)> _tables = new(new SameRope());
    private readonly List<(MixerNeeds Needs, LayerContext Context)> _made = [];
    private readonly Dictionary<int, LentKeyValues> _lent = [];
    private readonly Dictionary<int, Dictionary<Tensor, Tensor>> _moved = [];
    private readonly long[] _lengths = [.. input.Texts?.Select(static t => t.InputIds.size(1)) ?? []];
    private List<LayerContexts>? _texts;
    private Tensor? _documents;

    /// <summary>The layers' own inputs, [batch, tokens, layers, width]; null for none.</summary>
    internal Tensor? PerLayerInputs { get; init; }

    /// <summary>The virtual tokens that the batch begins with; null for none.</summary>
    internal IVirtualTokens? Virtual { get; init; }

    /// <summary>Indices of the layers whose keys and values later layers use.</summary>
    internal IReadOnlySet<int> Lenders { get; init; } = new HashSet<int>();

    /// <summary>Whether it is of one of the texts of a batch, whose rotary tables are the batch's.</summary>
    internal bool IsOfText { get; init; }

    /// <summary>The inputs of a layer; the tensors are in the caller's dispose scope.</summary>
    /// <param name="layer">The layer.</param>
    /// <param name="number">Index of the layer, for the cache.</param>
    internal LayerContext Of(DecoderLayer layer, int number)
    {
        var shared = Of(layer.Needs);
        if (input.Texts is { } texts)
        {
            _texts ??= [.. texts.Select(t => new LayerContexts(t, dtype) { Lenders = Lenders, IsOfText = true })];
            return shared with { PerLayerInput = PerLayerInputs?.select(2, number), Texts = _texts.ConvertAll(t => t.Of(layer, number)), TextLengths = _lengths };
        }

        return shared with
        {
            State = input.Cache is { } cache && layer is { Mixer: { } mixer, Needs.KeysOf: null } ? cache.Of(number, mixer.Part) : null,
            PerLayerInput = PerLayerInputs?.select(2, number),
            Borrowed = layer.Needs.KeysOf is { } lender ? _lent[lender] : null,
            VirtualKeys = Virtual?.KeysAndValues(number) is { } given ? [given.Keys, given.Values] : null,
            Lent = Lenders.Contains(number) ? _lent[number] = new LentKeyValues() : null,
        };
    }

    /// <summary>The inputs of a layer on another device than the batch's; tensors that layers share are copied there once.</summary>
    /// <param name="device">The layer's device.</param>
    /// <param name="context">The inputs.</param>
    internal LayerContext On(Device device, LayerContext context)
    {
        if (!_moved.TryGetValue(device.index, out var there))
        {
            there = _moved[device.index] = new Dictionary<Tensor, Tensor>(ReferenceEqualityComparer.Instance);
        }

        Tensor? There(Tensor? tensor) => tensor is null || IsOn(tensor, device) ? tensor : tensor.to(device);
        Tensor? Shared(Tensor? tensor)
        {
            if (tensor is null || IsOn(tensor, device))
            {
                return tensor;
            }

            return there.TryGetValue(tensor, out var moved) ? moved : there[tensor] = tensor.to(device);
        }

        return context.With([.. context.Tensors.Select(Shared)]).WithInputs([.. context.Inputs.Select(There)]);
    }

    private static bool IsOn(Tensor tensor, Device device) => tensor.device_type == device.type && tensor.device_index == device.index;

    /// <summary>Inputs, besides the states, of a mixer with some needs.</summary>
    /// <param name="needs">The needs.</param>
    internal LayerContext Of(MixerNeeds needs)
    {
        var same = _made.Find(m => ReferenceEquals(m.Needs.Rope, needs.Rope) && m.Needs with { Rope = null } == needs with { Rope = null }).Context;
        if (same is not null)
        {
            return same;
        }

        var (cos, sin) = needs.Rope is null || IsOfText ? default : Tables(needs.Rope, needs.RotaryWidth);
        var context = new LayerContext
        {
            Cos = cos,
            Sin = sin,
            Mask = needs.Looks && input.Texts is null ? Mask(needs) : null,
            Documents = needs.Restarts ? _documents ??= Documents() : null,
            Positions = needs.Positions ? input.PositionIds : null,
            LooksAtAll = input.IsSingleStep,
            Routers = input.Routers,
        };
        _made.Add((needs, context));
        return context;
    }

    // Those of the tokens that are read now; input.Documents begins with the tokens of the cache.
    private Tensor? Documents()
    {
        if (input is { VirtualTokens: > 0, Documents: not null })
        {
            throw new InvalidOperationException("this family carries a state from token to token, so that virtual tokens (prompt_tuning, p_tuning) need rows of one document without padding before it; set data.packing: false, and generate one text at a time.");
        }

        return input.Documents?.narrow(1, input.Cache?.Held ?? 0, input.InputIds.size(1));
    }

    private Tensor? Mask(MixerNeeds needs)
    {
        var same = _made.FindIndex(m => m.Needs.Looks && m.Needs.SlidingWindow == needs.SlidingWindow && m.Needs.ChunkSize == needs.ChunkSize && m.Needs.LimitsScores == needs.LimitsScores);
        return same >= 0 ? _made[same].Context.Mask : MakeMask(needs);
    }

    private Tensor? MakeMask(MixerNeeds needs)
    {
        var mask = AttentionMask.For(input, needs.SlidingWindow, needs.ChunkSize);
        return mask is not null && ScaledDotProductAttention.IsFused(mask.device, needs.LimitsScores) ? AttentionMask.ToBias(mask, dtype) : mask;
    }

    private (Tensor Cos, Tensor Sin) Tables(RopeConfig rope, int width)
    {
        if (!_tables.TryGetValue((rope, width), out var made))
        {
            made = _tables[(rope, width)] = new RotaryEmbedding(rope, width).Tables(input.PositionIds, input.LongestPosition + 1, input.DocumentLengths, dtype);
        }

        return made;
    }

    // By reference: layers with the same settings share the object.
    private sealed class SameRope : IEqualityComparer<(RopeConfig Rope, int Width)>
    {
        public bool Equals((RopeConfig Rope, int Width) x, (RopeConfig Rope, int Width) y) => ReferenceEquals(x.Rope, y.Rope) && x.Width == y.Width;

        public int GetHashCode((RopeConfig Rope, int Width) obj) => HashCode.Combine(System.Runtime.CompilerServices.RuntimeHelpers.GetHashCode(obj.Rope), obj.Width);
    }
}
