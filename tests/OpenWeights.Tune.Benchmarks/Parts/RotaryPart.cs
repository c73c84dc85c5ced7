using OpenWeights.Tune.Layers.Rope;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Benchmarks.Parts;

/// <summary>Heads turned by their positions, and the gradient of that.</summary>
public class RotaryPart : Part
{
    private Tensor _states = null!;
    private Tensor _weight = null!;
    private Tensor _cos = null!;
    private Tensor _sin = null!;

    private long Batch => Size(StepTokens / RowTokens, 2);

    private long Tokens => Size(RowTokens, 20);

    private long Heads => Size(HiddenSize / 64, 2);

    private long Width => Size(64, 16);

    /// <inheritdoc/>
    internal override string Unit => "GB/s";

    // Forward and backward read and write the states.
    internal override double Work => 4.0 * Batch * Tokens * Heads * Width * (DType == float32 ? 4 : 2);

    /// <inheritdoc/>
    internal override IReadOnlyList<Tensor> Own() => WithGradients(
        leaves => RotaryEmbedding.Rotate(leaves[0].view(Batch, Tokens, Heads, Width).transpose(1, 2), _cos, _sin), _weight, _states);

    // Hugging Face's apply_rotary_pos_emb.
    internal override IReadOnlyList<Tensor> Composition() => WithGradients(
        leaves =>
        {
            var states = leaves[0].view(Batch, Tokens, Heads, Width).transpose(1, 2);
            var (first, second) = (states.narrow(-1, 0, Width / 2), states.narrow(-1, Width / 2, Width / 2));
            return states.mul(cat([_cos, _cos], -1)).add(cat([second.neg(), first], -1).mul(cat([_sin, _sin], -1)));
        },
        _weight, _states);

    private protected override void Prepare()
    {
        var angles = randn([1, 1, Tokens, Width / 2]);
        (_cos, _sin) = (Keep(angles.cos().to(DType)), Keep(angles.sin().to(DType)));
        (_states, _weight) = (Random(Batch, Tokens, Heads * Width), Random(Batch, Heads, Tokens, Width));
    }
}
