using OpenWeights.LibTorch.Native;

namespace TorchSharp;

public static partial class torch
{
    public static unsafe partial class autograd
    {
        /// <summary>What a custom function saves in forward for backward.</summary>
        public class AutogradContext : IDisposable
        {
            private readonly Dictionary<string, object> _data = [];
            private nint _node;

            internal AutogradContext()
            {
            }

            public bool MaterializeGrads { get; private set; } = true;

            internal List<Tensor> ToSave { get; private set; } = [];

            internal List<Tensor> NonDifferentiable { get; private set; } = [];

            internal int SavedCount { get; private set; }

            public void save_for_backward(List<Tensor> tensors) => ToSave = tensors;
            public void mark_non_differentiable(List<Tensor> tensors) => NonDifferentiable = [.. tensors];
            public void set_materialize_grads(bool value) => MaterializeGrads = value;
            public void save_data(string key, object value) => _data[key] = value;
            public object get_data(string key) => _data.TryGetValue(key, out var value) ? value : default!;

            /// <summary>The tensors saved by forward, as new wrappers.</summary>
            public List<Tensor> get_saved_variables()
            {
                long count = SavedCount;
                var found = new nint[SavedCount];
                fixed (nint* f = found)
                {
                    NativeMethods.Check(NativeMethods.owt_node_saved(_node, f, &count));
                }

                return [.. found.Select(static handle => handle == 0 ? null! : new Tensor(handle))];
            }

            public void Dispose()
            {
                Dispose(true);
                GC.SuppressFinalize(this);
            }

            protected virtual void Dispose(bool disposing)
            {
                ToSave = [];
                _data.Clear();
            }

            /// <summary>Transfers the saved tensors to the graph, which releases them after backward.</summary>
            internal void Attach(nint node)
            {
                _node = NativeMethods.owt_node_weak(node);
                SavedCount = ToSave.Count;
                fixed (nint* handles = Handles(ToSave))
                {
                    NativeMethods.Check(NativeMethods.owt_node_save(node, handles, SavedCount));
                }

                GC.KeepAlive(ToSave);
                ToSave = [];
            }
        }
    }
}
