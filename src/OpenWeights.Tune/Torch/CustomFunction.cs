using OpenWeights.Tune.Kernels;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Torch;

/// <summary>
/// What every function with a derivative of its own is made from. TorchSharp registers all tensors that it makes around such a function in
/// the dispose scope that is current on the thread, usually the whole step's, and keeps what was saved until the graph itself is gone: no
/// memory would be free before the step ends, and on a GPU, whose backward runs on a thread of libtorch's without a scope, not before the
/// finalizer comes. Here each call has a scope of its own, and
/// <list type="bullet">
/// <item>forward's scope takes along everything but the outputs, among it the empty copy that TorchSharp makes of each output to fill up
/// gradients that do not arrive (this class fills them up instead);</item>
/// <item>backward's scope takes along the gradients that arrived and the saved tensors, and the graph lets go of those too: it goes
/// backward once;</item>
/// <item>gradients that backward gives live until libtorch has its own references (<see cref="BackwardPass"/>), and those of parameters,
/// which libtorch would copy for as long as anyone else refers to them, are added to the parameter here;</item>
/// <item>an exception in backward, which would end the process, is thrown where <see cref="BackwardPass.Run"/> was called.</item>
/// </list>
/// </summary>
/// <typeparam name="T">The function itself.</typeparam>
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

    /// <summary>The outputs, in the caller's dispose scope.</summary>
    /// <param name="inputs">Tensors and whatever else the function needs, in the order in which <see cref="Backward"/> gives gradients.</param>
    protected static List<Tensor> Record(params object?[] inputs)
    {
        using var scope = NewDisposeScope();
        return apply(inputs!).ConvertAll(static o => o.MoveToOuterDisposeScope());
    }

    /// <summary>Computes the outputs, without a graph, and saves what backward needs. Everything may be left in the current dispose scope.</summary>
    /// <param name="context">Where to save.</param>
    /// <param name="inputs">As they were given to <see cref="Record"/>.</param>
    protected abstract List<Tensor> Forward(AutogradContext context, object[] inputs);

    /// <summary>
    /// The gradient of each input, null for none and for what is no tensor. Everything may be left in the current dispose scope; it is
    /// called once, and saved tensors are gone afterwards. A parameter's gradient is a tensor of its own.
    /// </summary>
    /// <param name="context">What was saved.</param>
    /// <param name="gradients">The gradient of each output.</param>
    protected abstract IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients);

    // What libtorch's AccumulateGrad does, where it would be done with this gradient as it is. libtorch takes a gradient over only when
    // nothing else refers to it, and TorchSharp's wrapper of it is still there then: it would be copied, while activations are all there.
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
