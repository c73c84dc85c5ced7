using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Torch;
using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Adapters;

/// <summary>
/// The part of an adapter that adds a dense matrix to a layer's weight, W' = W + delta. The matrix is computed in forward and again in
/// backward, so that nothing of its size is kept in between.
/// </summary>
internal abstract class DeltaPart : LinearPart
{
    // Rows up to which a matrix is kept between calls: those of decoding, which otherwise computes it anew for each token.
    private const long FewRows = 32;

    private Tensor? _kept;

    private protected DeltaPart(ModuleSite site, params (string Name, Parameter Parameter)[] own)
        : base(site, own)
    {
    }

    /// <summary>Dropout probability on the input while training.</summary>
    private protected virtual double Dropout => 0;

    internal override bool Training
    {
        set
        {
            base.Training = value;
            Forget();
        }
    }

    internal override long KeptPerToken => Dropout > 0 ? 2 * Target.InFeatures : 0;

    // The matrix, its gradient, and about as much to compute it.
    internal override long Working => 4 * Target.OutFeatures * Target.InFeatures;

    public sealed override Tensor Apply(LinearLayer layer, Tensor input, Tensor output)
    {
        using var scope = NewDisposeScope();
        if (IsSkipped())
        {
            return output.alias().MoveToOuterDisposeScope();
        }

        var states = input.Widened();
        states = IsTraining && Dropout > 0 ? nn.functional.dropout(states, Dropout, training: true) : states;
        var update = Rows(Product(states));
        return output.Plus(update).to(output.dtype).MoveToOuterDisposeScope();
    }

    internal override void Restore(Func<string, Tensor> read)
    {
        Forget();
        base.Restore(read);
    }

    /// <summary>The matrix that is added to the weight, [out, in], float32.</summary>
    /// <param name="own">The parameters, in the order in which they were given.</param>
    /// <param name="weight">The weight; its values may be computed.</param>
    private protected abstract Tensor Delta(IReadOnlyList<Tensor> own, Func<Tensor> weight);

    /// <summary>Whether the part is left out in this call, for dropout of whole modules.</summary>
    private protected virtual bool IsSkipped() => false;

    /// <summary>The update of the output with some features left out, for dropout of ranks.</summary>
    /// <param name="update">The update, [..., out].</param>
    private protected virtual Tensor Rows(Tensor update) => update;

    private protected sealed override Tensor MergedWeight(Tensor weight) => weight.Plus(Delta([.. Own.Select(static p => p.Parameter)], () => weight));

    private protected override void Dispose(bool disposing)
    {
        base.Dispose(disposing);
        if (disposing)
        {
            Forget();
        }
    }

    private Tensor Product(Tensor states)
    {
        if (is_grad_enabled() || IsTraining)
        {
            return DenseUpdate.Of(this, states);
        }

        var rows = states.reshape(-1, states.size(-1));
        if (rows.size(0) > FewRows)
        {
            Forget();
        }

        var delta = _kept ?? Values();
        if (rows.size(0) <= FewRows && _kept is null)
        {
            _kept = delta.DetachFromDisposeScope();
        }

        return rows.mm(delta.t()).view([.. states.shape[..^1], Target.OutFeatures]);
    }

    private Tensor Values()
    {
        using var scope = NewDisposeScope();
        using var nothing = no_grad();
        return Delta([.. Own.Select(static p => p.Parameter)], BaseWeight).MoveToOuterDisposeScope();
    }

    private Tensor BaseWeight() => Target.DenseRows(0, Target.OutFeatures);

    private void Forget()
    {
        _kept?.Dispose();
        _kept = null;
    }

    /// <summary>x deltaᵀ, with delta computed again in backward: d delta = dyᵀ x, dx = dy delta.</summary>
    private sealed class DenseUpdate : CustomFunction<DenseUpdate>
    {
        internal static Tensor Of(DeltaPart part, Tensor states) => Record([part, states, .. part.Own.Select(static p => p.Parameter)])[0];

        protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
        {
            using var nothing = no_grad();
            using var scope = NewDisposeScope();
            var (part, states) = ((DeltaPart)inputs[0], (Tensor)inputs[1]);
            context.save_for_backward([states]);
            context.save_data("part", part);
            context.save_data("wants", states.requires_grad);
            var rows = states.reshape(-1, states.size(-1));
            return [rows.mm(part.Values().t()).view([.. states.shape[..^1], part.Target.OutFeatures]).MoveToOuterDisposeScope()];
        }

        protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients)
        {
            var (part, states) = ((DeltaPart)context.get_data("part"), context.get_saved_variables()[0]);
            var gradient = gradients[0].reshape(-1, part.Target.OutFeatures);
            var leaves = part.Own.Select(static p => p.Parameter.detach().requires_grad_(p.Parameter.requires_grad)).ToList();
            Tensor delta;
            using (enable_grad())
            {
                delta = part.Delta(leaves, part.BaseWeight);
            }

            BackwardPass.Run([delta], [gradient.t().mm(states.reshape(-1, states.size(-1)))]);
            var ofInput = (bool)context.get_data("wants") ? gradient.mm(delta.detach()).view(states.shape) : null;
            return [null, ofInput, .. leaves.Select(static l => l.grad)];
        }
    }
}
