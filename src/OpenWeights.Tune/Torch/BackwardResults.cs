using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Torch;

/// <summary>Keeps what a custom backward gives alive until libtorch has taken it over.</summary>
internal static class BackwardResults
{
    /// <summary>
    /// TorchSharp hands over handles and no references, so a collection right after backward would free the gradients. The caller's
    /// dispose scope keeps them; on a GPU backward runs on a thread that has none, and there the context keeps them.
    /// </summary>
    /// <param name="context">The function's context.</param>
    /// <param name="gradients">The gradients, in no dispose scope.</param>
    internal static List<Tensor> Keep(AutogradContext context, params Tensor?[] gradients)
    {
        if (CurrentDisposeScope is { } scope)
        {
            foreach (var gradient in gradients)
            {
                if (gradient is not null)
                {
                    scope.Attach(gradient);
                }
            }
        }
        else
        {
            context.save_data("gradients given", gradients);
        }

        return [.. gradients.Select(static g => g!)];
    }
}
