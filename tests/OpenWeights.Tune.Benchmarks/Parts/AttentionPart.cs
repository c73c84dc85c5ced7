using OpenWeights.Tune.Layers.Attention;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Benchmarks.Parts;

/// <summary>Causal attention with grouped queries, and its gradients, beside torch's scaled_dot_product_attention.</summary>
public class AttentionPart : Part
{
    private Tensor _query = null!;
    private Tensor _key = null!;
    private Tensor _value = null!;
    private Tensor _weight = null!;

    private long Batch => Size(StepTokens / RowTokens, 2);

    private long Tokens => Size(RowTokens, 40);

    private long Heads => Size(HiddenSize / 64, 4);

    private long Width => Size(64, 16);

    // Two products forward and five backward (the scores again), of which half is behind what a query may see.
    internal override double Work => 7 * 2.0 * Batch * Heads * Tokens * Tokens * Width / 2;

    /// <inheritdoc/>
    internal override IReadOnlyList<Tensor> Own()
    {
        using Scalar scale = 1 / Math.Sqrt(Width);
        using Scalar nowhere = double.NegativeInfinity;
        var settings = new BlockAttentionSettings(scale, null, null, nowhere, null);
        return WithGradients(leaves => BlockAttention.Attend(leaves[0], leaves[1], leaves[2], null, settings), _weight, _query, _key, _value);
    }

    /// <inheritdoc/>
    internal override IReadOnlyList<Tensor> Composition() => WithGradients(
        static leaves => nn.functional.scaled_dot_product_attention(leaves[0], leaves[1].repeat_interleave(2, 1), leaves[2].repeat_interleave(2, 1), is_casual: true),
        _weight, _query, _key, _value);

    private protected override void Prepare()
    {
        (_query, _weight) = (Random(Batch, Heads, Tokens, Width), Random(Batch, Heads, Tokens, Width));
        (_key, _value) = (Random(Batch, Heads / 2, Tokens, Width), Random(Batch, Heads / 2, Tokens, Width));
    }
}
