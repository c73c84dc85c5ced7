using OpenWeights.LibTorch.Native;

namespace TorchSharp;

public static partial class torch
{
    public static partial class nn
    {
        public enum Reduction
        {
            None = 0,
            Mean = 1,
            Sum = 2,
        }

        public static partial class functional
        {
            public static Tensor linear(Tensor input, Tensor weights, Tensor? bias = null) => Op.Tensor("aten::linear", input, weights, bias);
            public static Tensor silu(Tensor x, bool inplace = false) => inplace ? x.silu_() : x.silu();
            public static Tensor gelu(Tensor x) => x.gelu();
            public static Tensor relu(Tensor x, bool inplace = false) => inplace ? Op.InPlace("aten::relu_", x) : x.relu();
            public static Tensor mish(Tensor x, bool inplace = false) => inplace ? Op.InPlace("aten::mish_", x) : Op.Tensor("aten::mish", x);
            public static Tensor softplus(Tensor x, double beta = 1, double threshold = 20) => Op.Tensor("aten::softplus", x, beta, threshold);

            public static Tensor layer_norm(Tensor input, long[] normalized_shape, Tensor? weight = null, Tensor? bias = null, double eps = 1e-5) =>
                Op.Tensor("aten::layer_norm", input, normalized_shape, weight, bias, eps, true);

            public static Tensor dropout(Tensor input, double p = 0.5, bool training = true, bool inplace = false) =>
                inplace ? Op.InPlace("aten::dropout_", input, p, training) : Op.Tensor("aten::dropout", input, p, training);

            public static Tensor cross_entropy(
                Tensor input, Tensor target, Tensor? weight = null, long ignore_index = -100, Reduction reduction = Reduction.Mean, double label_smoothing = 0) =>
                Op.Tensor("aten::cross_entropy_loss", input, target, weight, (long)reduction, ignore_index, label_smoothing);

            /// <summary>
            /// Attention of [batch, heads, tokens, head_dim] tensors; a bool mask is true where a query may attend to a key.
            /// </summary>
            public static Tensor scaled_dot_product_attention(
                Tensor query, Tensor key, Tensor value, Tensor? attn_mask = null, double p = 0, bool is_casual = false) =>
                Op.Exists("aten::scaled_dot_product_attention")
                    ? Op.Tensor("aten::scaled_dot_product_attention", query, key, value, attn_mask, p, is_casual)
                    : ComposedAttention(query, key, value, attn_mask, p, is_casual);

            // For libtorch before 2.0, which lacks the operator: the definition in its documentation.
            private static Tensor ComposedAttention(Tensor query, Tensor key, Tensor value, Tensor? mask, double p, bool causal)
            {
                if (causal && mask is not null)
                {
                    throw new ArgumentException("attn_mask and is_casual exclude each other.");
                }

                using var scope = NewDisposeScope();
                var scores = query.mul(1.0 / Math.Sqrt(query.size(-1))).matmul(key.transpose(-2, -1));
                if (causal)
                {
                    mask = ones([query.size(-2), key.size(-2)], ScalarType.Bool, query.device).tril();
                }

                if (mask is not null)
                {
                    scores = mask.dtype == ScalarType.Bool ? scores.masked_fill(mask.logical_not(), double.NegativeInfinity) : scores + mask;
                }

                // As in the operator: low-precision scores are converted to weights in float32.
                var low = query.dtype is ScalarType.BFloat16 or ScalarType.Float16;
                var weights = low ? scores.softmax(-1, ScalarType.Float32).to(query.dtype) : scores.softmax(-1);
                return dropout(weights, p, p > 0).matmul(value).MoveToOuterDisposeScope();
            }
        }
    }

    public static class linalg
    {
        public enum QRMode
        {
            Reduced = 0,
            Complete = 1,
            R = 2,
        }

        public static Tensor inv(Tensor input) => Op.Tensor("aten::linalg_inv", input);

        public static (Tensor Q, Tensor R) qr(Tensor input, QRMode mode = QRMode.Reduced) =>
            Op.Pair("aten::linalg_qr", input, mode == QRMode.Reduced ? "reduced" : mode == QRMode.Complete ? "complete" : "r");

        public static Tensor solve_triangular(Tensor A, Tensor B, bool upper, bool left = true, bool unitriangular = false, Tensor? @out = null) =>
            @out is null ? Op.Tensor("aten::linalg_solve_triangular", A, B, upper, left, unitriangular) : @out.copy_(solve_triangular(A, B, upper, left, unitriangular));

        public static Tensor solve(Tensor A, Tensor B, bool left = true) => Op.Tensor("aten::linalg_solve", A, B, left);

        public static (Tensor U, Tensor S, Tensor Vh) svd(Tensor input, bool fullMatrices = true) => Op.Triple("aten::linalg_svd", input, fullMatrices);
    }
}
