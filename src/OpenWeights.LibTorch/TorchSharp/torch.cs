using OpenWeights.LibTorch.Native;

namespace TorchSharp;

/// <summary>TorchSharp's entry point, implemented with an installed libtorch: the part of its API that OpenWeights.Tune uses.</summary>
public static partial class torch
{
    public enum RoundingMode
    {
        None = 0,
        trunc = 1,
        floor = 2,
    }

    public static DisposeScope? CurrentDisposeScope => DisposeScopeManager.Thread.Current;
    public static DisposeScope NewDisposeScope() => DisposeScopeManager.Thread.Enter();
    public static bool is_grad_enabled() => NativeMethods.owt_grad_mode() != 0;
    public static IDisposable no_grad() => new GradMode(false);
    public static IDisposable enable_grad(bool enabled = true) => new GradMode(enabled);
    public static int get_num_threads() => NativeMethods.owt_threads();
    public static void set_num_threads(int num) => NativeMethods.Check(NativeMethods.owt_set_threads(num));
    public static Tensor cat(Tensor[] tensors, long dim = 0) => Op.Tensor("aten::cat", tensors, dim);
    public static Tensor cat(ReadOnlySpan<Tensor> tensors, long dim = 0) => cat(tensors.ToArray(), dim);
    public static Tensor stack(IEnumerable<Tensor> tensors, long dim = 0) => Op.Tensor("aten::stack", (Tensor[])[.. tensors], dim);
    public static Tensor diag_embed(Tensor input, long offset = 0, long dim1 = -2, long dim2 = -1) => Op.Tensor("aten::diag_embed", input, offset, dim1, dim2);
    public static Tensor where(Tensor condition, Tensor x, Tensor y) => Op.Tensor("aten::where.self", condition, x, y);
    public static Tensor minimum(Tensor input, Tensor other) => Op.Tensor("aten::minimum", input, other);

    private sealed class GradMode : IDisposable
    {
        private readonly int _before = NativeMethods.owt_grad_mode();

        internal GradMode(bool enabled) => NativeMethods.owt_set_grad_mode(enabled ? 1 : 0);
        public void Dispose() => NativeMethods.owt_set_grad_mode(_before);
    }
}
