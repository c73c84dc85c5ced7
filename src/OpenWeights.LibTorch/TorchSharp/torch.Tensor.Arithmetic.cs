using OpenWeights.LibTorch.Native;

namespace TorchSharp;

public static partial class torch
{
    public partial class Tensor
    {
        public Tensor add(Tensor target) => Op.Tensor("aten::add.Tensor", this, target);
        public Tensor add(Tensor target, Scalar alpha) => Op.Tensor("aten::add.Tensor", this, target, alpha);
        public Tensor add(Scalar scalar) => Op.Tensor("aten::add.Scalar", this, scalar);
        public Tensor add(Scalar scalar, Scalar alpha) => Op.Tensor("aten::add.Scalar", this, scalar, alpha);
        public Tensor add_(Tensor target) => Op.InPlace("aten::add_.Tensor", this, target);
        public Tensor add_(Tensor target, Scalar alpha) => Op.InPlace("aten::add_.Tensor", this, target, alpha);
        public Tensor add_(Scalar scalar) => Op.InPlace("aten::add_.Scalar", this, scalar);
        public Tensor add_(Scalar scalar, Scalar alpha) => Op.InPlace("aten::add_.Scalar", this, scalar, alpha);
        public Tensor sub(Tensor target) => Op.Tensor("aten::sub.Tensor", this, target);
        public Tensor sub(Scalar target) => Op.Tensor("aten::sub.Scalar", this, target);
        public Tensor sub_(Tensor target) => Op.InPlace("aten::sub_.Tensor", this, target);
        public Tensor sub_(Scalar target) => Op.InPlace("aten::sub_.Scalar", this, target);
        public Tensor mul(Tensor target) => Op.Tensor("aten::mul.Tensor", this, target);
        public Tensor mul(Scalar target) => Op.Tensor("aten::mul.Scalar", this, target);
        public Tensor mul_(Tensor target) => Op.InPlace("aten::mul_.Tensor", this, target);
        public Tensor mul_(Scalar target) => Op.InPlace("aten::mul_.Scalar", this, target);

        public Tensor div(Tensor target, RoundingMode rounding_mode = RoundingMode.None) =>
            Op.Tensor("aten::div.Tensor_mode", this, target, Rounding(rounding_mode));

        public Tensor div(Scalar target, RoundingMode rounding_mode = RoundingMode.None) =>
            Op.Tensor("aten::div.Scalar_mode", this, target, Rounding(rounding_mode));

        public Tensor div_(Tensor target, RoundingMode rounding_mode = RoundingMode.None) =>
            Op.InPlace("aten::div_.Tensor_mode", this, target, Rounding(rounding_mode));

        public Tensor div_(Scalar target, RoundingMode rounding_mode = RoundingMode.None) =>
            Op.InPlace("aten::div_.Scalar_mode", this, target, Rounding(rounding_mode));

        public Tensor eq(Tensor target) => Op.Tensor("aten::eq.Tensor", this, target);
        public Tensor eq(Scalar target) => Op.Tensor("aten::eq.Scalar", this, target);
        public Tensor ne(Tensor target) => Op.Tensor("aten::ne.Tensor", this, target);
        public Tensor lt(Tensor target) => Op.Tensor("aten::lt.Tensor", this, target);
        public Tensor lt(Scalar target) => Op.Tensor("aten::lt.Scalar", this, target);
        public Tensor gt(Tensor target) => Op.Tensor("aten::gt.Tensor", this, target);
        public Tensor gt(Scalar target) => Op.Tensor("aten::gt.Scalar", this, target);
        public Tensor le(Tensor target) => Op.Tensor("aten::le.Tensor", this, target);
        public Tensor le(Scalar target) => Op.Tensor("aten::le.Scalar", this, target);
        public Tensor ge(Tensor target) => Op.Tensor("aten::ge.Tensor", this, target);
        public Tensor ge(Scalar target) => Op.Tensor("aten::ge.Scalar", this, target);
        public Tensor logical_or(Tensor other) => Op.Tensor("aten::logical_or", this, other);
        public Tensor logical_and(Tensor other) => Op.Tensor("aten::logical_and", this, other);
        public Tensor remainder(Tensor target) => Op.Tensor("aten::remainder.Tensor", this, target);
        public Tensor remainder(Scalar scalar) => Op.Tensor("aten::remainder.Scalar", this, scalar);
        public Tensor addcmul_(Tensor tensor1, Tensor tensor2, Scalar value) => Op.InPlace("aten::addcmul_", this, tensor1, tensor2, value);
        public Tensor addcmul(Tensor tensor1, Tensor tensor2, Scalar value) => Op.Tensor("aten::addcmul", this, tensor1, tensor2, value);
        public Tensor addcdiv_(Tensor tensor1, Tensor tensor2, Scalar value) => Op.InPlace("aten::addcdiv_", this, tensor1, tensor2, value);
        public Tensor mm(Tensor target) => Op.Tensor("aten::mm", this, target);
        public Tensor bmm(Tensor batch2) => Op.Tensor("aten::bmm", this, batch2);
        public Tensor matmul(Tensor target) => Op.Tensor("aten::matmul", this, target);
        public Tensor addmm_(Tensor mat1, Tensor mat2, float beta = 1, float alpha = 1) => Op.InPlace("aten::addmm_", this, mat1, mat2, (double)beta, (double)alpha);

        private static Arg Rounding(RoundingMode mode) => mode switch
        {
            RoundingMode.None => Arg.None,
            RoundingMode.floor => "floor",
            _ => "trunc",
        };
    }
}
