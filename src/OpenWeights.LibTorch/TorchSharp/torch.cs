using OpenWeights.LibTorch.Native;

namespace TorchSharp;

/// <summary>TorchSharp's entry point, here over an installed libtorch: the part of its surface that OpenWeights.Tune stands on.</summary>
public static partial class torch
{
    public enum RoundingMode
    {
        None = 0,
        trunc = 1,
        floor = 2,
    }

    public static string __version__ => NativeMethods.Version();

    public static DisposeScope? CurrentDisposeScope => DisposeScopeManager.Thread.Current;

    public static DisposeScope NewDisposeScope() => DisposeScopeManager.Thread.Enter();

    public static bool is_grad_enabled() => NativeMethods.owt_grad_mode() != 0;

    public static IDisposable no_grad() => new GradMode(false);

    public static IDisposable enable_grad(bool enabled = true) => new GradMode(enabled);

    public static IDisposable set_grad_enabled(bool mode = true) => new GradMode(mode);

    public static bool is_inference_mode_enabled() => NativeMethods.owt_inference_mode() != 0;

    public static IDisposable inference_mode(bool mode = true) => new InferenceMode(mode);

    public static int get_num_threads() => NativeMethods.owt_threads();

    public static void set_num_threads(int num) => NativeMethods.Check(NativeMethods.owt_set_threads(num));

    public static bool cuda_is_available() => cuda.is_available();

    public static Tensor cat(Tensor[] tensors, long dim = 0) => Op.Tensor("aten::cat", tensors, dim);

    public static Tensor cat(ReadOnlySpan<Tensor> tensors, long dim = 0) => cat(tensors.ToArray(), dim);

    public static Tensor stack(IEnumerable<Tensor> tensors, long dim = 0) => Op.Tensor("aten::stack", (Tensor[])[.. tensors], dim);

    public static Tensor where(Tensor condition, Tensor x, Tensor y) => Op.Tensor("aten::where.self", condition, x, y);

    public static Tensor outer(Tensor input, Tensor vec2) => input.outer(vec2);

    public static Tensor mm(Tensor input, Tensor target) => input.mm(target);

    public static Tensor bmm(Tensor input, Tensor batch2) => input.bmm(batch2);

    public static Tensor matmul(Tensor input, Tensor target) => input.matmul(target);

    public static Tensor rsqrt(Tensor input) => input.rsqrt();

    public static Tensor sqrt(Tensor input) => input.sqrt();

    public static Tensor exp(Tensor input) => input.exp();

    public static Tensor sigmoid(Tensor input) => input.sigmoid();

    public static Tensor softmax(Tensor input, int dim, ScalarType? dtype = null) => input.softmax(dim, dtype);

    private sealed class GradMode : IDisposable
    {
        private readonly int _before = NativeMethods.owt_grad_mode();

        internal GradMode(bool enabled) => NativeMethods.owt_set_grad_mode(enabled ? 1 : 0);

        public void Dispose() => NativeMethods.owt_set_grad_mode(_before);
    }

    private sealed class InferenceMode : IDisposable
    {
        private nint _guard;

        internal InferenceMode(bool enabled) => _guard = NativeMethods.owt_enter_inference_mode(enabled ? 1 : 0);

        public void Dispose()
        {
            if (_guard != 0)
            {
                NativeMethods.owt_leave_inference_mode(_guard);
                _guard = 0;
            }
        }
    }
}
