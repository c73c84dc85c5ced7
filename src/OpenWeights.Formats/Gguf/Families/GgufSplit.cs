using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>
/// A tensor of a checkpoint's layer that GGUF divides into several, or has with its dimensions in another order. Both consist of equal slabs,
/// one for each expert or head, and a slab of each GGUF tensor is a strided view of the checkpoint's slab.
/// </summary>
/// <param name="name">The checkpoint's tensor, within its layer, such as mlp.experts.gate_up_proj.</param>
/// <param name="pieces">GGUF's tensors, within their block, such as ffn_gate_exps.weight.</param>
internal abstract class GgufSplit(string name, params IReadOnlyList<string> pieces)
{
    /// <summary>The checkpoint's tensor, within its layer.</summary>
    public string Name => name;

    /// <summary>GGUF's tensors, within their block.</summary>
    public IReadOnlyList<string> Pieces => pieces;

    /// <summary>Whether the first dimension of GGUF's tensors counts the slabs; otherwise there is one slab.</summary>
    public virtual bool IsStacked => true;

    /// <summary>The shape of the checkpoint's tensor.</summary>
    /// <param name="shapes">The shapes of GGUF's tensors.</param>
    public abstract IReadOnlyList<long> Whole(IReadOnlyList<IReadOnlyList<long>> shapes);

    /// <summary>The shapes of GGUF's tensors.</summary>
    /// <param name="whole">The shape of the checkpoint's tensor.</param>
    /// <param name="config">The model's config.json.</param>
    public abstract IReadOnlyList<IReadOnlyList<long>> Shapes(IReadOnlyList<long> whole, ConfigJson config);

    /// <summary>Where a slab of each of GGUF's tensors is in the checkpoint's slab.</summary>
    /// <param name="shapes">The shapes of GGUF's tensors.</param>
    public abstract IReadOnlyList<GgufView> Views(IReadOnlyList<IReadOnlyList<long>> shapes);

    /// <summary>Which of a slab's output features a GGUF tensor has: from First on, every Step-th.</summary>
    /// <param name="piece">Index of the GGUF tensor.</param>
    /// <param name="features">The number of output features.</param>
    public virtual (long First, long Step, long Count) OutputFeatures(int piece, long features) => (0, 1, features);

    /// <summary>The number of slabs.</summary>
    /// <param name="shapes">The shapes of GGUF's tensors.</param>
    public long Slabs(IReadOnlyList<IReadOnlyList<long>> shapes)
    {
        ArgumentNullException.ThrowIfNull(shapes);
        return IsStacked ? shapes[0][0] : 1;
    }

    /// <summary>The shape of a slab of a tensor.</summary>
    /// <param name="shape">The tensor's shape.</param>
    protected IReadOnlyList<long> Slab(IReadOnlyList<long> shape) => IsStacked ? [.. shape.Skip(1)] : shape;
}

/// <summary>A view of a slab: element i, j is at First + i Strides[0] + j Strides[1].</summary>
/// <param name="Shape">Its shape; one or two dimensions.</param>
/// <param name="First">The slab's element at which it begins.</param>
/// <param name="Strides">How far apart neighbouring elements of each dimension are.</param>
internal sealed record GgufView(IReadOnlyList<long> Shape, long First, IReadOnlyList<long> Strides)
{
    /// <summary>Takes the view's elements, in its order, from a slab.</summary>
    /// <param name="slab">The slab.</param>
    public float[] Gather(ReadOnlySpan<float> slab)
    {
        var values = new float[Count];
        var (rows, columns, next) = Sizes;
        for (var (row, i) = (0L, 0); row < rows; row++)
        {
            var at = checked((int)(First + (row * Strides[0])));
            for (var column = 0L; column < columns; column++, i++, at += next)
            {
                values[i] = slab[at];
            }
        }

        return values;
    }

    /// <summary>Puts elements, in the view's order, into a slab.</summary>
    /// <param name="values">The elements.</param>
    /// <param name="slab">The slab.</param>
    public void Scatter(ReadOnlySpan<float> values, Span<float> slab)
    {
        var (rows, columns, next) = Sizes;
        for (var (row, i) = (0L, 0); row < rows; row++)
        {
            var at = checked((int)(First + (row * Strides[0])));
            for (var column = 0L; column < columns; column++, i++, at += next)
            {
                slab[at] = values[i];
            }
        }
    }

    /// <summary>The number of elements.</summary>
    public long Count => Shape.Aggregate(1L, static (product, size) => product * size);

    private (long Rows, long Columns, int Next) Sizes => Shape.Count == 1 ? (Shape[0], 1, 0) : (Shape[0], Shape[1], checked((int)Strides[1]));
}

/// <summary>How gate and up projections lie in one tensor, beyond one after the other.</summary>
[Flags]
internal enum GateUpOrder
{
    /// <summary>The rows of gate, then those of up: [(experts,) 2 x inner, hidden].</summary>
    Halves = 0,

    /// <summary>With input features as rows: [experts, hidden, 2 x inner].</summary>
    Transposed = 1,

    /// <summary>Row by row in turns: the first of gate, the first of up, and so on.</summary>
    Interleaved = 2,
}

/// <summary>Gate and up projections in one tensor, which GGUF has as two.</summary>
/// <param name="name">The checkpoint's tensor.</param>
/// <param name="gate">GGUF's gate.</param>
/// <param name="up">GGUF's up.</param>
/// <param name="order">How they lie.</param>
/// <param name="stacked">Whether there is one of each expert.</param>
internal sealed class GateUpSplit(string name, string gate, string up, GateUpOrder order = GateUpOrder.Halves, bool stacked = true) : GgufSplit(name, gate, up)
{
    /// <inheritdoc/>
    public override bool IsStacked => stacked;

    private bool IsTransposed => order.HasFlag(GateUpOrder.Transposed);

    private bool IsInterleaved => order.HasFlag(GateUpOrder.Interleaved);

    /// <inheritdoc/>
    public override (long First, long Step, long Count) OutputFeatures(int piece, long features) => IsInterleaved ? (piece, 2, features / 2) : (piece * (features / 2), 1, features / 2);

    /// <inheritdoc/>
    public override IReadOnlyList<long> Whole(IReadOnlyList<IReadOnlyList<long>> shapes)
    {
        ArgumentNullException.ThrowIfNull(shapes);
        var slab = Slab(shapes[0]);
        IReadOnlyList<long> rest = slab.Count == 1 ? [2 * slab[0]] : IsTransposed ? [slab[1], 2 * slab[0]] : [2 * slab[0], slab[1]];
        return stacked ? [shapes[0][0], .. rest] : rest;
    }

    /// <inheritdoc/>
    public override IReadOnlyList<IReadOnlyList<long>> Shapes(IReadOnlyList<long> whole, ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(whole);
        var slab = Slab(whole);
        IReadOnlyList<long> half = slab.Count == 1 ? [slab[0] / 2] : IsTransposed ? [slab[1] / 2, slab[0]] : [slab[0] / 2, slab[1]];
        IReadOnlyList<long> piece = stacked ? [whole[0], .. half] : half;
        return [piece, piece];
    }

    /// <inheritdoc/>
    public override IReadOnlyList<GgufView> Views(IReadOnlyList<IReadOnlyList<long>> shapes)
    {
        ArgumentNullException.ThrowIfNull(shapes);
        var slab = Slab(shapes[0]);
        var inner = slab[0];
        var width = slab.Count == 1 ? 1 : slab[1];

        // Distances in the checkpoint from one inner feature, and one hidden feature, to the next.
        var (ofInner, ofHidden) = IsTransposed ? (1L, 2 * inner) : (width, 1L);
        var (step, next) = IsInterleaved ? (2 * ofInner, ofInner) : (ofInner, inner * ofInner);
        IReadOnlyList<long> strides = slab.Count == 1 ? [step] : [step, ofHidden];
        return [new GgufView(slab, 0, strides), new GgufView(slab, next, strides)];
    }
}

/// <summary>A matrix of each expert that checkpoints store as [experts, in, out], and GGUF as [experts, out, in].</summary>
/// <param name="name">The checkpoint's tensor.</param>
/// <param name="piece">GGUF's.</param>
internal sealed class TransposedSplit(string name, string piece) : GgufSplit(name, piece)
{
    /// <inheritdoc/>
    public override IReadOnlyList<long> Whole(IReadOnlyList<IReadOnlyList<long>> shapes)
    {
        ArgumentNullException.ThrowIfNull(shapes);
        return Turned(shapes[0]);
    }

    /// <inheritdoc/>
    public override IReadOnlyList<IReadOnlyList<long>> Shapes(IReadOnlyList<long> whole, ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(whole);
        return [Turned(whole)];
    }

    /// <inheritdoc/>
    public override IReadOnlyList<GgufView> Views(IReadOnlyList<IReadOnlyList<long>> shapes)
    {
        ArgumentNullException.ThrowIfNull(shapes);
        return [new GgufView(Slab(shapes[0]), 0, [1, shapes[0][1]])];
    }

    private static IReadOnlyList<long> Turned(IReadOnlyList<long> shape) => [shape[0], shape[2], shape[1]];
}

/// <summary>
/// The projection of latent attention that makes keys and values of the latent vector, [heads x (key + value), latent]: GGUF has the keys'
/// transposed, [heads, latent, key], because llama.cpp applies it to the queries, and the values', [heads, value, latent].
/// </summary>
/// <param name="name">The checkpoint's tensor.</param>
/// <param name="keys">GGUF's of the keys.</param>
/// <param name="values">GGUF's of the values.</param>
internal sealed class LatentSplit(string name, string keys, string values) : GgufSplit(name, keys, values)
{
    /// <inheritdoc/>
    public override IReadOnlyList<long> Whole(IReadOnlyList<IReadOnlyList<long>> shapes)
    {
        ArgumentNullException.ThrowIfNull(shapes);
        return [shapes[0][0] * (shapes[0][2] + shapes[1][1]), shapes[0][1]];
    }

    /// <inheritdoc/>
    public override IReadOnlyList<IReadOnlyList<long>> Shapes(IReadOnlyList<long> whole, ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(whole);
        ArgumentNullException.ThrowIfNull(config);
        var heads = config.Int("num_attention_heads");
        var key = config.Int("qk_nope_head_dim");
        return [[heads, whole[1], key], [heads, (whole[0] / heads) - key, whole[1]]];
    }

    /// <inheritdoc/>
    public override IReadOnlyList<GgufView> Views(IReadOnlyList<IReadOnlyList<long>> shapes)
    {
        ArgumentNullException.ThrowIfNull(shapes);
        var (latent, key) = (shapes[0][1], shapes[0][2]);
        return [new GgufView(Slab(shapes[0]), 0, [1, latent]), new GgufView(Slab(shapes[1]), key * latent, [latent, 1])];
    }
}
