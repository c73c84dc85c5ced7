using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Layers.FeedForward;
using OpenWeights.Tune.Layers.Rope;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Decoding.Decode;

/// <summary>
/// A part of a layer in a decode step. It computes <see cref="DecodeState.Given"/> from <see cref="DecodeState.Normed"/> in stages; in
/// each stage the threads work together.
/// </summary>
internal interface IDecodePart
{
    /// <summary>Number of stages.</summary>
    int Stages { get; }

    /// <summary>Widths of the work buffers that it needs (<see cref="DecodeState.Work"/>).</summary>
    IReadOnlyList<nint> Widths { get; }

    /// <summary>Starts a step with one token per row.</summary>
    /// <param name="state">Buffers of the step.</param>
    /// <param name="layer">Index of the layer.</param>
    void Begin(DecodeState state, int layer);

    /// <summary>Number of parts that a stage is split into.</summary>
    int Parts(int stage, DecodeState state);

    /// <summary>Computes a part of a stage.</summary>
    void Run(int stage, int part, DecodeState state);

    /// <summary>Fetches the weights that a thread reads first in a stage; false if it reads none.</summary>
    bool Fetch(int stage, int thread, int threads);

    /// <summary>Work of a single thread after a stage.</summary>
    void Finish(int stage, DecodeState state);
}

/// <summary>Creates the parts of a decode step from the parts of a model. If one is not supported, the model itself decodes.</summary>
/// <param name="rows">Number of rows.</param>
/// <param name="dtype">The model's dtype.</param>
internal sealed class DecodePlan(nint rows, ScalarType dtype)
{
    private readonly List<(RopeConfig Rope, int Width, DecodeRope Made)> _ropes = [];
    private readonly List<DecodeProducts> _products = [];

    /// <summary>Number of rows.</summary>
    internal nint Rows => rows;

    /// <summary>The model's dtype.</summary>
    internal ScalarType DType => dtype;

    /// <summary>The products of all layers.</summary>
    internal IReadOnlyList<DecodeProducts> AllProducts => _products;

    /// <summary>The rotary tables of all layers.</summary>
    internal IEnumerable<DecodeRope> Ropes => _ropes.Select(static r => r.Made);

    /// <summary>A part of a layer; null if it is not supported.</summary>
    internal IDecodePart? Part(LayerPart part) => part switch
    {
        SelfAttention attention => DecodeAttention.Of(attention, this),
        GatedFeedForward feedForward => DecodeFeedForward.Of(feedForward, this),
        PlainFeedForward feedForward => DecodeFeedForward.Of(feedForward, this),
        MixtureOfExperts mixture => DecodeMixture.Of(mixture, this),
        _ => null,
    };

    /// <summary>Builds the products of layers; null if one is not supported.</summary>
    internal DecodeProducts? Products(params IEnumerable<LinearLayer> layers)
    {
        var made = DecodeProducts.Of(rows, dtype, layers);
        if (made is not null)
        {
            _products.Add(made);
        }

        return made;
    }

    /// <summary>The rotary table of some settings, shared by layers with the same settings; null without rotary embedding.</summary>
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
