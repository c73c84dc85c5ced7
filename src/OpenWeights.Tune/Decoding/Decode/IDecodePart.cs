using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.FeedForward;
using OpenWeights.Tune.Layers.Rope;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Decoding.Decode;

/// <summary>
/// A part of a layer in a step: it makes <see cref="DecodeState.Given"/> of <see cref="DecodeState.Normed"/>, in stages that threads do
/// together.
/// </summary>
internal interface IDecodePart
{
    /// <summary>The number of stages.</summary>
    int Stages { get; }

    /// <summary>The widths of the rows of numbers that it works in: <see cref="DecodeState.Work"/>.</summary>
    IReadOnlyList<nint> Widths { get; }

    /// <summary>Begins with a token of each row.</summary>
    /// <param name="state">What is read and written.</param>
    /// <param name="held">What the layer remembers; null for a feed-forward.</param>
    void Begin(DecodeState state, LayerState? held);

    /// <summary>Into how many parts a stage is cut.</summary>
    int Parts(int stage, DecodeState state);

    /// <summary>Does a part of a stage.</summary>
    void Run(int stage, int part, DecodeState state);

    /// <summary>What one thread does after a stage.</summary>
    void Finish(int stage, DecodeState state);
}

/// <summary>Makes the parts of a step of a model's parts. What is not known here is computed by the model itself.</summary>
/// <param name="rows">How many rows.</param>
/// <param name="dtype">The model's dtype.</param>
internal sealed class DecodePlan(nint rows, ScalarType dtype)
{
    private readonly List<(RopeConfig Rope, int Width, DecodeRope Made)> _ropes = [];

    /// <summary>The rotary cosines and sines of all layers.</summary>
    internal IEnumerable<DecodeRope> Ropes => _ropes.Select(static r => r.Made);

    /// <summary>A part of a layer; null where it is computed otherwise.</summary>
    internal IDecodePart? Part(LayerPart part) => part switch
    {
        SelfAttention attention => DecodeAttention.Of(attention, this),
        GatedFeedForward feedForward => DecodeFeedForward.Of(feedForward, this),
        _ => null,
    };

    /// <summary>Builds the products of layers; null if one is not supported.</summary>
    internal DecodeProducts? Products(params IEnumerable<LinearLayer> layers) => DecodeProducts.Of(rows, dtype, layers);

    /// <summary>The cosines and sines of rotary settings, which layers with the same settings share; null for none.</summary>
    internal DecodeRope? Rope(RopeConfig? rope, int width)
    {
        if (rope is null)
        {
            return null;
        }

        var at = _ropes.FindIndex(r => ReferenceEquals(r.Rope, rope) && r.Width == width);
        if (at < 0)
        {
            at = _ropes.Count;
            _ropes.Add((rope, width, new DecodeRope(rope, width, rows)));
        }

        return _ropes[at].Made;
    }
}
