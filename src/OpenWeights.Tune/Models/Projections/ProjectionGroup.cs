using OpenWeights.Tune.Torch;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Models.Projections;

/// <summary>
/// Linear layers that read the same input, each with its low-rank update: one function, whose backward makes the input again, adds all
/// gradients of it up where they lie, and computes none for frozen weights.
/// </summary>
internal sealed class ProjectionGroup : MultiTensorFunction<ProjectionGroup>
{
    public override string Name => nameof(ProjectionGroup);

    /// <summary>Whether layers can be computed so: their adapters add a low-rank update and do nothing else.</summary>
    internal static bool Serves(params ReadOnlySpan<LinearLayer> layers)
    {
        foreach (var layer in layers)
        {
            if (!Projection.Serves(layer))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Each layer's output, [..., out], in the caller's dispose scope.</summary>
    internal static List<Tensor> Run(LayerInput input, params LinearLayer[] layers) => Run(input, wantsValues: true, layers);

    /// <summary>Each layer's output, [..., out], in the caller's dispose scope.</summary>
    /// <param name="input">What the layers read.</param>
    /// <param name="wantsValues">Whether the outputs' values are wanted, or their graph alone; they are zeros then.</param>
    /// <param name="layers">The layers.</param>
    internal static List<Tensor> Run(LayerInput input, bool wantsValues, params LinearLayer[] layers)
    {
        var projections = Array.ConvertAll(layers, static l => new Projection(l));
        if (!is_grad_enabled() || !(input.Sources.Any(static s => s.requires_grad) || projections.Any(static p => p.IsTrained)))
        {
            using var nothing = no_grad();
            using var scope = NewDisposeScope();
            var made = input.Make().Input;
            return [.. projections.Select(p => p.Forward(made, wantsValues).Output.MoveToOuterDisposeScope())];
        }

        return apply([(input, projections, wantsValues), .. input.Sources, .. projections.SelectMany(static p => p.Parameters)]);
    }

    public override List<Tensor> forward(AutogradContext ctx, params object[] vars)
    {
        var (input, projections, wantsValues) = ((LayerInput, Projection[], bool))vars[0];
        using var scope = NewDisposeScope();
        var (made, kept) = input.Make();
        var products = Array.ConvertAll(projections, p => p.Forward(made, wantsValues));
        var sources = input.NeedsSources || projections.Any(static p => p.NeedsInput) ? input.Sources : [];
        var inner = products.Select(static p => p.Inner).OfType<Tensor>().ToArray();
        foreach (var tensor in kept.Concat(inner))
        {
            _ = tensor.MoveToOuterDisposeScope();
        }

        ctx.save_for_backward([.. sources, .. kept, .. inner]);
        ctx.save_data("what", new Saved(input, projections, sources.Count, kept.Count, input.Sources.Any(static s => s.requires_grad)));
        return [.. products.Select(static p => p.Output.MoveToOuterDisposeScope())];
    }

    public override List<Tensor> backward(AutogradContext ctx, List<Tensor> grad_outputs)
    {
        var saved = (Saved)ctx.get_data("what");
        var gradients = Gradients(saved, ctx.get_saved_variables(), grad_outputs);
        return BackwardResults.Keep(ctx, [null, .. gradients]);
    }

    private static List<Tensor?> Gradients(Saved saved, List<Tensor> tensors, List<Tensor> given)
    {
        using var scope = NewDisposeScope();
        var sources = tensors[..saved.Sources];
        var kept = tensors.GetRange(saved.Sources, saved.Kept);
        var inner = tensors[(saved.Sources + saved.Kept)..];
        var input = Array.Exists(saved.Projections, static p => p.NeedsInput) ? saved.Input.Again(sources, kept) : null;
        var sum = new InputGradient();
        var (parameters, next) = (new List<Tensor?>(), 0);
        for (var i = 0; i < saved.Projections.Length; i++)
        {
            var projection = saved.Projections[i];
            var found = projection.Backward(given[i], input, projection.Update is null ? null : inner[next++], saved.WantsInput ? sum : null);
            parameters.AddRange(found.Select(f => f is null ? null : scope.Detach(f)));
        }

        // What was made again makes room for the gradients of what it was made of.
        if (input is not null && !sources.Exists(s => ReferenceEquals(s, input)))
        {
            input.Dispose();
        }

        var ofSources = saved.WantsInput
            ? saved.Input.Backward(sources, kept, sum.Of(given[0]))
            : [.. saved.Input.Sources.Select(static _ => (Tensor?)null)];
        return [.. ofSources, .. parameters];
    }

    private sealed record Saved(LayerInput Input, Projection[] Projections, int Sources, int Kept, bool WantsInput);
}
