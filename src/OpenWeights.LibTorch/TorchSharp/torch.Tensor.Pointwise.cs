using OpenWeights.LibTorch.Native;

namespace TorchSharp;

public static partial class torch
{
    public partial class Tensor
    {
        public Tensor abs() => Op.Tensor("aten::abs", this);
        public Tensor neg() => Op.Tensor("aten::neg", this);
        public Tensor neg_() => Op.InPlace("aten::neg_", this);
        public Tensor exp() => Op.Tensor("aten::exp", this);
        public Tensor exp_() => Op.InPlace("aten::exp_", this);
        public Tensor log() => Op.Tensor("aten::log", this);
        public Tensor log_() => Op.InPlace("aten::log_", this);
        public Tensor log1p_() => Op.InPlace("aten::log1p_", this);
        public Tensor expm1() => Op.Tensor("aten::expm1", this);
        public Tensor expm1_() => Op.InPlace("aten::expm1_", this);
        public Tensor erfinv() => Op.Tensor("aten::erfinv", this);
        public Tensor relu() => Op.Tensor("aten::relu", this);
        public Tensor sqrt() => Op.Tensor("aten::sqrt", this);
        public Tensor rsqrt() => Op.Tensor("aten::rsqrt", this);
        public Tensor rsqrt_() => Op.InPlace("aten::rsqrt_", this);
        public Tensor reciprocal() => Op.Tensor("aten::reciprocal", this);
        public Tensor sin() => Op.Tensor("aten::sin", this);
        public Tensor cos() => Op.Tensor("aten::cos", this);
        public Tensor tanh() => Op.Tensor("aten::tanh", this);
        public Tensor tanh_() => Op.InPlace("aten::tanh_", this);
        public Tensor sigmoid() => Op.Tensor("aten::sigmoid", this);
        public Tensor silu() => Op.Tensor("aten::silu", this);
        public Tensor silu_() => Op.InPlace("aten::silu_", this);
        public Tensor log2() => Op.Tensor("aten::log2", this);
        public Tensor exp2() => Op.Tensor("aten::exp2", this);
        public Tensor floor_() => Op.InPlace("aten::floor_", this);
        public Tensor sign() => Op.Tensor("aten::sign", this);
        public Tensor square() => Op.Tensor("aten::square", this);
        public Tensor isfinite() => Op.Tensor("aten::isfinite", this);
        public Tensor isnan() => Op.Tensor("aten::isnan", this);
        public Tensor isinf() => Op.Tensor("aten::isinf", this);
        public Tensor logical_not() => Op.Tensor("aten::logical_not", this);
        public Tensor gelu() => Op.Tensor("aten::gelu", this);

        public Tensor bucketize(Tensor boundaries, bool outInt32 = false, bool right = false) =>
            Op.Tensor("aten::bucketize.Tensor", this, boundaries, outInt32, right);

        public Tensor round(long decimals = 0) => Op.Tensor("aten::round.decimals", this, decimals);
        public Tensor clamp_min(Scalar min) => Op.Tensor("aten::clamp_min", this, min);
        public Tensor clamp(Scalar? min = null, Scalar? max = null) => Op.Tensor("aten::clamp", this, min, max);
        public Tensor clamp_(Scalar? min = null, Scalar? max = null) => Op.InPlace("aten::clamp_", this, min, max);
        public Tensor minimum(Tensor other) => Op.Tensor("aten::minimum", this, other);
        public Tensor pow(Scalar exponent) => Op.Tensor("aten::pow.Tensor_Scalar", this, exponent);
        public Tensor pow(Tensor exponent) => Op.Tensor("aten::pow.Tensor_Tensor", this, exponent);
        public Tensor softmax(long dim, ScalarType? dtype = null) => Op.Tensor("aten::softmax.int", this, dim, dtype);
        public Tensor log_softmax(long dim, ScalarType? dtype = null) => Op.Tensor("aten::log_softmax.int", this, dim, dtype);
        public Tensor masked_fill(Tensor mask, Scalar value) => Op.Tensor("aten::masked_fill.Scalar", this, mask, value);
        public Tensor masked_fill_(Tensor mask, Scalar value) => Op.InPlace("aten::masked_fill_.Scalar", this, mask, value);
        public Tensor zero_() => Op.InPlace("aten::zero_", this);
        public Tensor fill_(Scalar value) => Op.InPlace("aten::fill_.Scalar", this, value);
        public Tensor copy_(Tensor source, bool nonBlocking = false) => Op.InPlace("aten::copy_", this, source, nonBlocking);
        public Tensor set_(Tensor source) => Op.InPlace("aten::set_.source_Tensor", this, source);
        public Tensor tril(long diagonal = 0) => Op.Tensor("aten::tril", this, diagonal);
        public Tensor triu(long diagonal = 0) => Op.Tensor("aten::triu", this, diagonal);
    }
}
