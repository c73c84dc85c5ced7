using OpenWeights.LibTorch.Native;

namespace TorchSharp;

public static partial class torch
{
    public partial class Tensor
    {

        public Tensor t() => Op.Tensor("aten::t", this);
        public Tensor view(params long[] shape) => Op.Tensor("aten::view", this, shape);
        public Tensor reshape(params long[] shape) => Op.Tensor("aten::reshape", this, shape);
        public Tensor unflatten(long dim, params long[] sizes) => Op.Tensor("aten::unflatten.int", this, dim, sizes);
        public Tensor expand(params long[] sizes) => Op.Tensor("aten::expand", this, sizes, false);
        public Tensor permute(params long[] permutation) => Op.Tensor("aten::permute", this, permutation);
        public Tensor transpose(long dim0, long dim1) => Op.Tensor("aten::transpose.int", this, dim0, dim1);
        public Tensor flatten(long start_dim = 0, long end_dim = -1) => Op.Tensor("aten::flatten.using_ints", this, start_dim, end_dim);
        public Tensor diagonal(long offset = 0, long dim1 = 0, long dim2 = 1) => Op.Tensor("aten::diagonal", this, offset, dim1, dim2);
        public Tensor movedim(long[] source, long[] destination) => Op.Tensor("aten::movedim.intlist", this, source, destination);
        public Tensor flip(params long[] dims) => Op.Tensor("aten::flip", this, dims);
        public Tensor[] unbind(long dimension = 0) => Op.Tensors("aten::unbind.int", this, dimension);
        public Tensor squeeze(long? dim = null) => dim is { } d ? Op.Tensor("aten::squeeze.dim", this, d) : Op.Tensor("aten::squeeze", this);
        public Tensor unsqueeze(long dim) => Op.Tensor("aten::unsqueeze", this, dim);
        public Tensor contiguous() => Op.Tensor("aten::contiguous", this);
        public Tensor clone() => Op.Tensor("aten::clone", this);
        public Tensor detach() => Op.Tensor("aten::detach", this);
        public Tensor view_as_complex() => Op.Tensor("aten::view_as_complex", this);
        public Tensor view_as_real() => Op.Tensor("aten::view_as_real", this);
        public Tensor alias() => Op.Tensor("aten::alias", this);
        public Tensor narrow(long dim, long start, long length) => Op.Tensor("aten::narrow", this, dim, start, length);
        [System.Runtime.CompilerServices.IndexerName("TensorItems")]
        public Tensor this[long i1]
        {
            get => select(0, i1);
            set => _ = select(0, i1).copy_(value);
        }

        public Tensor select(long dim, long index) => Op.Tensor("aten::select.int", this, dim, index);
        public Tensor index_select(long dim, Tensor index) => Op.Tensor("aten::index_select", this, dim, index);
        public Tensor index_add_(long dim, Tensor index, Tensor source, Scalar alpha) => Op.InPlace("aten::index_add_", this, dim, index, source, alpha);
        public Tensor index_copy(long dim, Tensor index, Tensor source) => Op.Tensor("aten::index_copy", this, dim, index, source);
        public Tensor index_copy_(long dim, Tensor index, Tensor source) => Op.InPlace("aten::index_copy_", this, dim, index, source);
        public Tensor gather(long dim, Tensor index) => Op.Tensor("aten::gather", this, dim, index);
        public Tensor scatter_(long dim, Tensor index, Tensor src) => Op.InPlace("aten::scatter_.src", this, dim, index, src);
        public Tensor scatter_add_(long dim, Tensor index, Tensor src) => Op.InPlace("aten::scatter_add_", this, dim, index, src);
        public Tensor masked_select(Tensor mask) => Op.Tensor("aten::masked_select", this, mask);
        public Tensor nonzero() => Op.Tensor("aten::nonzero", this);

        public Tensor repeat_interleave(long repeats, long? dim = null, long? output_size = null) =>
            Op.Tensor("aten::repeat_interleave.self_int", this, repeats, dim, output_size);

        public Tensor[] split(long size, int dim = 0) => Op.Tensors("aten::split.Tensor", this, size, dim);
        public Tensor[] split(long[] sizes, long dim = 0) => Op.Tensors("aten::split_with_sizes", this, sizes, dim);
        public Tensor[] split(ReadOnlySpan<long> sizes, long dim = 0) => Op.Tensors("aten::split_with_sizes", this, sizes, dim);
        public Tensor[] chunk(long chunks, long dim = 0) => Op.Tensors("aten::chunk", this, chunks, dim);
        public Tensor as_strided(long[] size, long[] strides, long storageOffset = 0) => Op.Tensor("aten::as_strided", this, size, strides, storageOffset);
    }
}
