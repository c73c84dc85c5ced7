using System.Runtime.InteropServices;
using OpenWeights.LibTorch.Native;

namespace TorchSharp;

public static partial class torch
{
    public static partial class autograd
    {
        /// <summary>An operation with a derivative written in C#.</summary>
        public abstract unsafe class Function<T>
            where T : Function<T>, new()
        {
            internal static readonly T Instance = new();

            protected Function()
            {
            }

            public abstract string Name { get; }

            public static List<Tensor> apply_internal(params object[] vars)
            {
                ArgumentNullException.ThrowIfNull(vars);
                var inputs = new List<Tensor>(vars.Length);
                var slots = new int[vars.Length];
                for (var i = 0; i < vars.Length; i++)
                {
                    slots[i] = vars[i] is Tensor { IsInvalid: false } ? inputs.Count : -1;
                    if (slots[i] >= 0)
                    {
                        inputs.Add((Tensor)vars[i]);
                    }
                }

                var recorded = is_grad_enabled() && inputs.Any(static t => t.requires_grad);
                var context = new AutogradContext();
                List<Tensor> outputs;
                using (no_grad())
                {
                    outputs = Instance.Forward(context, vars);

                    // An output that is also an input would become its own ancestor.
                    outputs = [.. outputs.Select(o => inputs.Any(i => i.Handle == o.Handle) ? o.alias() : o)];
                }

                if (recorded)
                {
                    new Node(context, slots, outputs).Record(inputs);
                }

                return outputs;
            }

            internal abstract List<Tensor> Forward(AutogradContext context, object[] vars);

            internal abstract List<Tensor> Backward(AutogradContext context, List<Tensor> gradients);

            /// <summary>The function's node in the graph, which keeps it alive.</summary>
            private sealed class Node(AutogradContext context, int[] slots, List<Tensor> outputs) : IManagedNode
            {
                // Shape, dtype and device of each output, to create missing gradients.
                private readonly (long[] Shape, ScalarType DType, Device Device)[] _outputs =
                    [.. outputs.Select(static o => (o.shape, o.dtype, o.device))];

                private List<Tensor>? _made = outputs;

                internal void Record(List<Tensor> inputs)
                {
                    nint node;
                    fixed (nint* handles = Handles(inputs))
                    {
                        var self = GCHandle.ToIntPtr(GCHandle.Alloc(this));
                        NativeMethods.Check(NativeMethods.owt_node_new(self, AutogradCallbacks.Run, AutogradCallbacks.Release, handles, inputs.Count, &node));
                    }

                    GC.KeepAlive(inputs);
                    try
                    {
                        foreach (var output in _made!)
                        {
                            var differentiable = output.is_floating_point() && !context.NonDifferentiable.Any(t => t.Handle == output.Handle);
                            NativeMethods.Check(NativeMethods.owt_node_output(node, output.Handle, differentiable ? 1 : 0));
                        }

                        context.Attach(node);
                    }
                    finally
                    {
                        _made = null;
                        NativeMethods.owt_node_release(node);
                    }
                }

                public void Backward(ReadOnlySpan<nint> gradients, Span<nint> results)
                {
                    using var scope = NewDisposeScope();
                    var given = new List<Tensor>(gradients.Length);
                    for (var i = 0; i < gradients.Length; i++)
                    {
                        given.Add(gradients[i] == 0 && context.MaterializeGrads
                            ? zeros(_outputs[i].Shape, _outputs[i].DType, _outputs[i].Device)
                            : new Tensor(gradients[i]));
                    }

                    var found = Instance.Backward(context, given);
                    if (found.Count < slots.Length)
                    {
                        throw new NotImplementedException(
                            $"Function {Instance.Name} returned an incorrect number of gradients (expected {slots.Length}), got {found.Count}");
                    }

                    for (var i = 0; i < found.Count; i++)
                    {
                        if ((i >= slots.Length || slots[i] < 0) && found[i] is { IsInvalid: false })
                        {
                            throw new NotImplementedException(
                                $"Function {Instance.Name} returned a gradient that is defined at position {i + 1}, but the corresponding forward input was not a Tensor");
                        }
                    }

                    for (var i = 0; i < slots.Length; i++)
                    {
                        if (slots[i] >= 0 && found[i] is { IsInvalid: false } gradient)
                        {
                            results[slots[i]] = gradient.RetainHandle();
                        }
                    }
                }
            }
        }

        public abstract class SingleTensorFunction<T> : Function<T>
            where T : SingleTensorFunction<T>, new()
        {
            protected SingleTensorFunction()
            {
            }

            public static Tensor apply(params object[] vars) => apply_internal(vars)[0];

            public abstract Tensor forward(AutogradContext ctx, params object[] vars);

            public abstract List<Tensor> backward(AutogradContext ctx, Tensor grad_output);

            internal sealed override List<Tensor> Forward(AutogradContext context, object[] vars) => [forward(context, vars)];
            internal sealed override List<Tensor> Backward(AutogradContext context, List<Tensor> gradients) => backward(context, gradients[0]);
        }

        public abstract class MultiTensorFunction<T> : Function<T>
            where T : MultiTensorFunction<T>, new()
        {
            protected MultiTensorFunction()
            {
            }

            public static List<Tensor> apply(params object[] vars) => apply_internal(vars);

            public abstract List<Tensor> forward(AutogradContext ctx, params object[] vars);

            public abstract List<Tensor> backward(AutogradContext ctx, List<Tensor> grad_outputs);

            internal sealed override List<Tensor> Forward(AutogradContext context, object[] vars) => forward(context, vars);
            internal sealed override List<Tensor> Backward(AutogradContext context, List<Tensor> gradients) => backward(context, gradients);
        }
    }
}
