using OpenWeights.LibTorch.Native;

namespace TorchSharp;

public static partial class torch
{
    public partial class Tensor
    {
        public Tensor to(ScalarType type, bool copy = false, bool disposeAfter = false, bool non_blocking = false) =>
            Converted(Op.Tensor("aten::to.dtype", this, type, non_blocking, copy), disposeAfter);

        public Tensor to(Device device, bool copy = false, bool disposeAfter = false, bool non_blocking = false) =>
            Converted(Op.Tensor("aten::to.device", this, device, dtype, non_blocking, copy), disposeAfter);

        public Tensor to(ScalarType type, Device device, bool copy = false, bool disposeAfter = false, bool non_blocking = false) =>
            Converted(Op.Tensor("aten::to.device", this, device, type, non_blocking, copy), disposeAfter);

        public Tensor cpu() => to(CPU);
        public Tensor bfloat16() => to(ScalarType.BFloat16);
        public Tensor pin_memory() => Op.Tensor("aten::pin_memory", this);

        public Tensor zeros_like(ScalarType? dtype = null, Device? device = null, bool requires_grad = false) =>
            Op.Tensor("aten::zeros_like", this, dtype, Arg.None, device).with_requires_grad(requires_grad);

        public Tensor ones_like(ScalarType? dtype = null, Device? device = null, bool requires_grad = false) =>
            Op.Tensor("aten::ones_like", this, dtype, Arg.None, device).with_requires_grad(requires_grad);

        public Tensor empty_like(ScalarType? dtype = null, Device? device = null, bool requires_grad = false) =>
            Op.Tensor("aten::empty_like", this, dtype, Arg.None, device).with_requires_grad(requires_grad);

        public Tensor normal_(double mean = 0, double std = 1, Generator? generator = null) => Op.InPlace("aten::normal_", this, mean, std, generator);
        public Tensor uniform_(double from, double to, Generator? generator = null) => Op.InPlace("aten::uniform_", this, from, to, generator);

        private Tensor Converted(Tensor result, bool disposeAfter)
        {
            if (disposeAfter)
            {
                Dispose();
            }

            return result;
        }
    }
}
