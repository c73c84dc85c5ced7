using OpenWeights.Tune.Objectives;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Benchmarks.Parts;

/// <summary>The output head with cross entropy, and their gradients.</summary>
public class HeadLossPart : Part
{
    private Tensor _hidden = null!;
    private Tensor _head = null!;
    private Tensor _targets = null!;
    private Tensor _one = null!;

    private long Rows => Size(StepTokens, 40);

    private long Features => Size(HiddenSize, 24);

    private long Vocabulary => Size(32000, 100);

    // Scores, the gradient of the states, and that of the head.
    internal override double Work => 6.0 * Rows * Features * Vocabulary;

    /// <inheritdoc/>
    internal override IReadOnlyList<Tensor> Own() => WithGradients(leaves => HeadCrossEntropy.Sum(leaves[0], leaves[1], _targets), _one, _hidden, _head);

    /// <inheritdoc/>
    internal override IReadOnlyList<Tensor> Composition() => WithGradients(
        leaves =>
        {
            var scores = nn.functional.linear(leaves[0], leaves[1]).to(float32);
            return nn.functional.cross_entropy(scores, _targets, reduction: nn.Reduction.Sum);
        },
        _one, _hidden, _head);

    private protected override void Prepare()
    {
        (_hidden, _head) = (Random(Rows, Features), Random(Vocabulary, Features));
        (_targets, _one) = (Keep(randint(0, Vocabulary, [Rows])), Keep(ones([])));
    }
}
