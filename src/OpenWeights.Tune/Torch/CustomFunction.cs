using OpenWeights.Tune.Kernels;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Torch;

/// <summary>
/// Base class of all functions with their own derivative. TorchSharp registers all tensors that it creates around such a function in
/// the thread's current dispose scope, usually that of the whole step, and keeps saved tensors until the graph is freed. No memory would be
/// freed before the end of the step; on a GPU, whose backward runs on a libtorch thread without a scope, not before the
/// finalizer runs. Therefore each call has its own scope:
/// <list type="bullet">
/// <item>forward's scope frees everything except the outputs, including the empty copy that TorchSharp creates of each output to replace
/// missing gradients (this class replaces them itself);</item>
/// <item>backward's scope frees the received gradients and the saved tensors, and the graph releases those too: a graph can be
/// used for backward once;</item>
/// <item>gradients returned by backward live until libtorch references them (<see cref="BackwardPass"/>); those of parameters,
/// which libtorch would copy while anything else references them, are added to the parameter here;</item>
/// <item>an exception in backward, which would otherwise end the process, is rethrown where <see cref="BackwardPass.Run"/> was
/// called.</item>
/// </list>
/// </summary>
/// <typeparam name="T">The derived class.</typeparam>
internal abstract class CustomFunction<T> : MultiTensorFunction<T>
    where T : CustomFunction<T>, new()
{
    private const string CallKey = "call";

    /// <inheritdoc/>
    public override string Name => typeof(T).Name;

    /// <inheritdoc/>
    public sealed override List<Tensor> forward(AutogradContext ctx, params object[] vars)
    {
        ctx.set_materialize_grads(false);
        var outputs = Forward(ctx, vars);
        ctx.save_data(CallKey, new Call([.. vars.Select(static v => v as TorchSharp.Modules.Parameter)], [.. outputs.Select(static o => new Meta(o.shape, o.dtype, o.device))]));
        return outputs;
    }

    /// <inheritdoc/>
    public sealed override List<Tensor> backward(AutogradContext ctx, List<Tensor> grad_outputs)
    {
        BackwardPass.Release();
        var call = (Call)ctx.get_data(CallKey);
        var given = new Tensor?[call.Parameters.Length];
        try
        {
            using var scope = NewDisposeScope();
            var arrived = grad_outputs.FindAll(static g => g is { IsInvalid: false });
            arrived.ForEach(scope.Attach);
            if (arrived.Count > 0)
            {
                var gradients = Backward(ctx, [.. grad_outputs.Select((g, i) => g is { IsInvalid: false } ? g : call.Outputs[i].Zeros())]);
                for (var i = 0; i < given.Length; i++)
                {
                    given[i] = gradients[i] is { } gradient && !Accumulate(call.Parameters[i], gradient) ? gradient.DetachFromDisposeScope() : null;
                }
            }
        }
        catch (Exception e) when (BackwardPass.Catches(e))
        {
            Array.Clear(given);
        }
        finally
        {
            ctx.Dispose();
        }

        BackwardPass.Hold(given);
        return [.. given.Select(static g => g!)];
    }

    /// <summary>Computes the outputs, in the caller's dispose scope.</summary>
    /// <param name="inputs">Tensors and other arguments, in the order of the gradients that <see cref="Backward"/> returns.</param>
    protected static List<Tensor> Record(params object?[] inputs)
    {
        using var scope = NewDisposeScope();
        return apply(inputs!).ConvertAll(static o => o.MoveToOuterDisposeScope());
    }

    /// <summary>
    /// Computes the outputs without autograd, and saves what backward needs. Temporary tensors may be left in the current dispose scope.
    /// </summary>
    /// <param name="context">Stores saved tensors and values.</param>
    /// <param name="inputs">The arguments of <see cref="Record"/>.</param>
    protected abstract List<Tensor> Forward(AutogradContext context, object[] inputs);

    /// <summary>
    /// The gradient of each input; null for inputs without gradient. Temporary tensors may be left in the current dispose scope. It is
    /// called once; saved tensors are freed afterwards. The gradient of a parameter must be a new tensor.
    /// </summary>
    /// <param name="context">The saved tensors and values.</param>
    /// <param name="gradients">Gradients of the outputs.</param>
    protected abstract IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients);

    // Replaces libtorch's AccumulateGrad for cases in which it would take over this gradient. libtorch takes over a gradient only if
    // nothing else references it; TorchSharp's wrapper still does at that point, so it would be copied while all activations are in memory.
    private static bool Accumulate(TorchSharp.Modules.Parameter? parameter, Tensor gradient)
    {
        if (parameter is not { IsInvalid: false, is_leaf: true, requires_grad: true } || is_grad_enabled()
            || gradient.dtype != parameter.dtype || !gradient.is_contiguous() || !parameter.is_contiguous() || !gradient.shape.AsSpan().SequenceEqual(parameter.shape))
        {
            return false;
        }

        if (parameter.grad is { } sum)
        {
            _ = sum.PlusInPlace(gradient);
        }
        else
        {
            parameter.grad = gradient;
        }

        return true;
    }

    private sealed record Call(TorchSharp.Modules.Parameter?[] Parameters, Meta[] Outputs);

    private sealed record Meta(long[] Shape, ScalarType DType, Device Device)
    {
        internal Tensor Zeros() => zeros(Shape, DType, Device);
    }
}
