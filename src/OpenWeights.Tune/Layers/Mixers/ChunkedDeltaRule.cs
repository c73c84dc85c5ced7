using OpenWeights.Tune.Torch;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Layers.Mixers;

/// <summary>
/// The delta rule with a backward that recomputes the chunks: their intermediate tensors are several times as large as the inputs, and recomputing
/// them takes less time than the products around them.
/// </summary>
internal sealed class ChunkedDeltaRule : CustomFunction<ChunkedDeltaRule>
{
    /// <summary>The output, [batch, tokens, value heads, value width], in float32; null if no gradient is wanted.</summary>
    /// <param name="mixed">Queries, keys and values.</param>
    /// <param name="decay">The logarithms of the decays.</param>
    /// <param name="beta">The betas.</param>
    /// <param name="documents">Document of each token, [batch, tokens], or null.</param>
    /// <param name="inputs">Computes the rule's inputs from the first three.</param>
    internal static Tensor? Of(Tensor mixed, Tensor decay, Tensor beta, Tensor? documents, Func<Tensor, Tensor, Tensor, DeltaInputs> inputs) =>
        is_grad_enabled() && (mixed.requires_grad || decay.requires_grad || beta.requires_grad) ? Record(mixed, decay, beta, documents, inputs)[0] : null;

    protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
    {
        using var nothing = no_grad();
        var (mixed, decay, beta, documents) = ((Tensor)inputs[0], (Tensor)inputs[1], (Tensor)inputs[2], (Tensor?)inputs[3]);
        var make = (Func<Tensor, Tensor, Tensor, DeltaInputs>)inputs[4];
        context.save_for_backward([mixed, decay, beta, documents!]);
        context.save_data("inputs", make);
        context.save_data("wanted", new[] { mixed.requires_grad, decay.requires_grad, beta.requires_grad });
        return [DeltaRule.Run(make(mixed, decay, beta), documents, null).Output];
    }

    protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients)
    {
        using var recorded = enable_grad();
        var (saved, wanted) = (context.get_saved_variables(), (bool[])context.get_data("wanted"));
        var leaves = saved.Take(wanted.Length).Select((t, i) => t.detach().requires_grad_(wanted[i])).ToArray();
        var make = (Func<Tensor, Tensor, Tensor, DeltaInputs>)context.get_data("inputs");
        BackwardPass.Run([DeltaRule.Run(make(leaves[0], leaves[1], leaves[2]), saved[3], null).Output], gradients);
        return [.. leaves.Select(static l => l.grad), null, null];
    }
}
