using OpenWeights.Tune.Torch;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Layers.Mixers;

/// <summary>
/// A recurrence over a text, computed one span of tokens after another, each in parallel. Only the inputs of a span and the state before it are
/// saved for backward, which recomputes the spans from the last to the first.
/// </summary>
internal abstract class SpanScan
{
    /// <summary>Computes all tokens.</summary>
    /// <param name="inputs">The inputs of each token, each [batch, tokens, ...].</param>
    /// <param name="weights">The weights; null for one that the mixer does not have.</param>
    /// <param name="documents">Document of each token, [batch, tokens], at each of which the state restarts; null if each row is one document.</param>
    /// <param name="state">State of earlier tokens, which is replaced by that after these; null without a cache.</param>
    /// <returns>[batch, tokens, ...], in the caller's dispose scope.</returns>
    internal Tensor Run(IReadOnlyList<Tensor> inputs, IReadOnlyList<Tensor?> weights, Tensor? documents, ScanState? state)
    {
        if (state is null && is_grad_enabled() && inputs.Concat(weights).Any(static t => t?.requires_grad == true))
        {
            return Recording.Run(this, inputs, weights, documents);
        }

        using var scope = NewDisposeScope();
        using var nothing = no_grad();
        var (output, last, _) = Spans(inputs, weights, documents, (state?.Value, state?.Document), keepsStates: false);
        state?.Replace(last, documents?.narrow(1, documents.size(1) - 1, 1));
        return output.MoveToOuterDisposeScope();
    }

    /// <summary>Number of tokens of a span; the last may have fewer.</summary>
    /// <param name="inputs">The inputs of all tokens.</param>
    protected abstract long SpanTokens(IReadOnlyList<Tensor> inputs);

    /// <summary>Computes a span. Temporary tensors may be left in the current dispose scope.</summary>
    /// <param name="inputs">The inputs of its tokens.</param>
    /// <param name="weights">The weights.</param>
    /// <param name="documents">The documents of its tokens; null where all are the document of the state.</param>
    /// <param name="state">The state before it; null for zeros.</param>
    /// <returns>Its output, and the state after it.</returns>
    protected abstract (Tensor Output, Tensor State) Span(IReadOnlyList<Tensor> inputs, IReadOnlyList<Tensor?> weights, SpanDocuments? documents, Tensor? state);

    private (Tensor Output, Tensor Last, List<Tensor> States) Spans(
        IReadOnlyList<Tensor> inputs, IReadOnlyList<Tensor?> weights, Tensor? documents, (Tensor? Value, Tensor? Document) before, bool keepsStates)
    {
        var (tokens, span, states) = (inputs[0].size(1), SpanTokens(inputs), new List<Tensor>());
        var (output, state) = (default(Tensor), before.Value);
        for (long start = 0; start < tokens; start += span)
        {
            using var scope = NewDisposeScope();
            var count = Math.Min(span, tokens - start);
            var own = inputs.Select(t => t.narrow(1, start, count)).ToList();
            var (part, after) = Span(own, weights, SpanDocuments.Of(documents, before.Document, start, count), state);
            if (count == tokens)
            {
                return (part.MoveToOuterDisposeScope(), after.MoveToOuterDisposeScope(), states);
            }

            output ??= empty([part.size(0), tokens, .. part.shape[2..]], part.dtype, part.device).MoveToOuterDisposeScope();
            _ = output.narrow(1, start, count).copy_(part);
            if (start > 0 && !keepsStates)
            {
                state!.Dispose();
            }

            state = after.MoveToOuterDisposeScope();
            if (keepsStates && start + count < tokens)
            {
                states.Add(state);
            }
        }

        return (output!, state!, states);
    }

    /// <summary>The scan with its gradients.</summary>
    private sealed class Recording : CustomFunction<Recording>
    {
        internal static Tensor Run(SpanScan scan, IReadOnlyList<Tensor> inputs, IReadOnlyList<Tensor?> weights, Tensor? documents) =>
            Record([scan, inputs.Count, documents, .. inputs, .. weights])[0];

        protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
        {
            var (scan, count, documents) = ((SpanScan)inputs[0], (int)inputs[1], (Tensor?)inputs[2]);
            Tensor[] tokens = [.. inputs[3..(3 + count)].Cast<Tensor>()];
            Tensor?[] weights = [.. inputs[(3 + count)..].Cast<Tensor?>()];
            using var nothing = no_grad();
            var (output, _, states) = scan.Spans(tokens, weights, documents, (null, null), keepsStates: true);
            context.save_for_backward([documents!, .. tokens, .. weights.Select(static w => w!), .. states]);
            context.save_data("scan", new Call(scan, count, weights.Length, [.. tokens.Concat(weights).Select(static t => t?.requires_grad == true)]));
            return [output];
        }

        protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients)
        {
            var saved = context.get_saved_variables();
            var call = (Call)context.get_data("scan");
            var states = saved[(1 + call.Inputs + call.Weights)..];
            var inputs = saved[1..(1 + call.Inputs)].Select((t, i) => (Value: t, Gradient: call.Wants[i] ? empty(t.shape, t.dtype, t.device) : null)).ToList();
            var weights = saved[(1 + call.Inputs)..(1 + call.Inputs + call.Weights)].Select((w, i) => Leaf(w, call.Wants[call.Inputs + i])).ToList();
            var (tokens, span) = (inputs[0].Value.size(1), call.Scan.SpanTokens([.. inputs.Select(static i => i.Value)]));
            Tensor? after = null;
            for (var i = states.Count; i >= 0; i--)
            {
                using var scope = NewDisposeScope();
                var (start, count) = (i * span, Math.Min(span, tokens - (i * span)));
                var own = inputs.Select((t, at) => Leaf(t.Value.narrow(1, start, count), call.Wants[at])!).ToList();
                var state = i == 0 ? null : Leaf(states[i - 1], wanted: true);
                using (enable_grad())
                {
                    var (output, last) = call.Scan.Span(own, weights, SpanDocuments.Of(saved[0], null, start, count), state);
                    var given = gradients[0].narrow(1, start, count);
                    BackwardPass.Run([output, last], [given, after ?? last.zeros_like()]);
                }

                foreach (var (leaf, (_, gradient)) in own.Zip(inputs))
                {
                    _ = leaf.grad is { } part ? gradient?.narrow(1, start, count).copy_(part) : gradient?.narrow(1, start, count).zero_();
                }

                after = state?.grad?.MoveToOuterDisposeScope();
            }

            return [null, null, null, .. inputs.Select(static i => i.Gradient), .. weights.Select(static w => w is { requires_grad: true } ? w.grad ?? w.zeros_like() : null)];
        }

        private static Tensor? Leaf(Tensor? tensor, bool wanted) => tensor?.detach().requires_grad_(wanted);

        private sealed record Call(SpanScan Scan, int Inputs, int Weights, bool[] Wants);
    }
}

/// <summary>The documents of a span's tokens.</summary>
/// <param name="Own">Document of each token, [batch, tokens].</param>
/// <param name="Before">Document of the token before the first, [batch, 1].</param>
internal sealed record SpanDocuments(Tensor Own, Tensor Before)
{
    /// <summary>Whether each token is of the same document as the one before it, [batch, tokens].</summary>
    internal Tensor Continues => Own.eq(cat([Before, Own.narrow(1, 0, Own.size(1) - 1)], 1));

    /// <summary>The documents of some tokens of a text.</summary>
    /// <param name="documents">Document of each of the text's tokens; null where there is one.</param>
    /// <param name="before">Document of the token before the text; null where it is that of the first token.</param>
    /// <param name="start">The first token.</param>
    /// <param name="count">How many.</param>
    internal static SpanDocuments? Of(Tensor? documents, Tensor? before, long start, long count) =>
        documents is null ? null
            : new SpanDocuments(documents.narrow(1, start, count), start > 0 ? documents.narrow(1, start - 1, 1) : before ?? documents.narrow(1, 0, 1));
}

/// <summary>The state that a recurrence carries from token to token.</summary>
internal sealed class ScanState : LayerState
{
    /// <inheritdoc/>
    public override long ByteLength => Value is { } held ? held.numel() * held.element_size() : 0;

    /// <summary>The state after the last token; null before the first.</summary>
    internal Tensor? Value { get; private set; }

    /// <summary>The document of the last token, [batch, 1]; null where no documents were told apart.</summary>
    internal Tensor? Document { get; private set; }

    internal override bool CanTruncate(int length) => false;

    internal override void Truncate(int length) => throw new InvalidOperationException("the states after earlier tokens are not kept");

    internal override void Select(long[] rows) => (Value, Document) = (Chosen(Value, rows), Chosen(Document, rows));

    /// <summary>Replaces what is held.</summary>
    internal void Replace(Tensor value, Tensor? document)
    {
        Value?.Dispose();
        Value = value.DetachFromDisposeScope();
        if (document is not null)
        {
            Document?.Dispose();
            Document = document.clone().DetachFromDisposeScope();
        }
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        Value?.Dispose();
        Document?.Dispose();
        (Value, Document) = (null, null);
    }
}
