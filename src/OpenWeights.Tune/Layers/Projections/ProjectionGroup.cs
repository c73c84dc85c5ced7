using OpenWeights.Tune.Torch;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Layers.Projections;

/// <summary>
/// Linear layers with the same input, each with an optional low-rank update, as one autograd function. Backward recomputes the input,
/// accumulates its gradients in place, and computes no gradients of frozen weights.
/// </summary>
internal sealed class ProjectionGroup : CustomFunction<ProjectionGroup>
{
    /// <summary>Whether layers are supported: their adapters add only a low-rank update.</summary>
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

    /// <summary>Output of each layer, [..., out], in the caller's dispose scope.</summary>
    internal static List<Tensor> Run(LayerInput input, params LinearLayer[] layers) => Run(input, wantsValues: true, layers);

    /// <summary>Output of each layer, [..., out], in the caller's dispose scope.</summary>
    /// <param name="input">The input of the layers.</param>
    /// <param name="wantsValues">Whether the output values are needed. If false, only the autograd graph is built and the values are
    /// zeros.</param>
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

        return Record([(input, projections, wantsValues), .. input.Sources, .. projections.SelectMany(static p => p.Parameters)]);
    }

    protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
    {
        var (input, projections, wantsValues) = ((LayerInput, Projection[], bool))inputs[0];
        var (made, kept) = input.Make();
        var products = Array.ConvertAll(projections, p => p.Forward(made, wantsValues));
        var sources = input.NeedsSources || projections.Any(static p => p.NeedsInput) ? input.Sources : [];
        var inner = products.Select(static p => p.Inner).OfType<Tensor>().ToArray();
        context.save_for_backward([.. sources, .. kept, .. inner]);
        context.save_data("what", new Saved(input, projections, sources.Count, kept.Count, input.Sources.Any(static s => s.requires_grad)));
        return [.. products.Select(static p => p.Output)];
    }

    protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients)
    {
        var (saved, tensors) = ((Saved)context.get_data("what"), context.get_saved_variables());
        var sources = tensors[..saved.Sources];
        var kept = tensors.GetRange(saved.Sources, saved.Kept);
        var inner = tensors[(saved.Sources + saved.Kept)..];
        var input = Array.Exists(saved.Projections, static p => p.NeedsInput) ? saved.Input.Again(sources, kept) : null;
        var sum = new InputGradient();
        var (parameters, next) = (new List<Tensor?>(), 0);
        for (var i = 0; i < saved.Projections.Length; i++)
        {
            var projection = saved.Projections[i];
            var found = projection.Backward(gradients[i], input, projection.Update is null ? null : inner[next++], saved.WantsInput ? sum : null);
            parameters.AddRange(found);
        }

        // The recomputed input is freed before the gradients of its sources are allocated.
        if (input is not null && !sources.Exists(s => ReferenceEquals(s, input)))
        {
            input.Dispose();
        }

        var ofSources = saved.WantsInput
            ? saved.Input.Backward(sources, kept, sum.Of(gradients[0]))
            : [.. saved.Input.Sources.Select(static _ => (Tensor?)null)];
        return [null, .. ofSources, .. parameters];
    }

    private sealed record Saved(LayerInput Input, Projection[] Projections, int Sources, int Kept, bool WantsInput);
}
