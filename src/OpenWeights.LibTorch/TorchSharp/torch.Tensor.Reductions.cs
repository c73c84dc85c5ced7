using OpenWeights.LibTorch.Native;

namespace TorchSharp;

public static partial class torch
{
    public partial class Tensor
    {
        public Tensor sum(ScalarType? type = null) => Op.Tensor("aten::sum", this, type);
        public Tensor sum(long dim, bool keepdim = false, ScalarType? type = null) => Op.Tensor("aten::sum.dim_IntList", this, (long[])[dim], keepdim, type);
        public Tensor sum(long[] dim, bool keepdim = false, ScalarType? type = null) => Op.Tensor("aten::sum.dim_IntList", this, dim, keepdim, type);
        public Tensor sum(ReadOnlySpan<long> dim, bool keepdim = false, ScalarType? type = null) => Op.Tensor("aten::sum.dim_IntList", this, dim, keepdim, type);
        public Tensor mean() => Op.Tensor("aten::mean", this);
        public Tensor mean(long[] dimensions, bool keepdim = false, ScalarType? type = null) => Op.Tensor("aten::mean.dim", this, dimensions, keepdim, type);
        public Tensor max() => Op.Tensor("aten::max", this);

        public Tensor std(ReadOnlySpan<long> dimensions, bool unbiased = true, bool keepdim = false, ScalarType? type = null) =>
            type is null ? Op.Tensor("aten::std.dim", this, dimensions, unbiased, keepdim) : to(type.Value).std(dimensions, unbiased, keepdim);

        public (Tensor values, Tensor indexes) max(long dim, bool keepdim = false) => Op.Pair("aten::max.dim", this, dim, keepdim);
        public Tensor min() => Op.Tensor("aten::min", this);
        public (Tensor values, Tensor indexes) min(long dim, bool keepdim = false) => Op.Pair("aten::min.dim", this, dim, keepdim);
        public Tensor amax(params long[] dims) => Op.Tensor("aten::amax", this, dims);
        public Tensor argmax() => Op.Tensor("aten::argmax", this);
        public Tensor argmax(long dim, bool keepdim = false) => Op.Tensor("aten::argmax", this, dim, keepdim);
        public Tensor all() => Op.Tensor("aten::all", this);
        public Tensor all(long dim, bool keepdim = false) => Op.Tensor("aten::all.dim", this, dim, keepdim);
        public Tensor any() => Op.Tensor("aten::any", this);
        public Tensor any(long dim, bool keepdim = false) => Op.Tensor("aten::any.dim", this, dim, keepdim);
        public Tensor norm(float p = 2) => Op.Tensor("aten::norm.Scalar", this, (double)p);
        public Tensor norm(int dim, bool keepdim = false, float p = 2) => Op.Tensor("aten::norm.ScalarOpt_dim", this, (double)p, (long[])[dim], keepdim);
        public Tensor logsumexp(long dim, bool keepdim = false) => Op.Tensor("aten::logsumexp", this, (long[])[dim], keepdim);
        public Tensor cumsum(long dim, ScalarType? type = null) => Op.Tensor("aten::cumsum", this, dim, type);

        public (Tensor values, Tensor indexes) topk(int k, int dim = -1, bool largest = true, bool sorted = true) =>
            Op.Pair("aten::topk", this, k, dim, largest, sorted);
    }
}
