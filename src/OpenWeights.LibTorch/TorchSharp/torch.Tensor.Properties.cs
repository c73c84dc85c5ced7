using System.Globalization;
using OpenWeights.LibTorch.Native;

namespace TorchSharp;

public static partial class torch
{
    public unsafe partial class Tensor
    {
        public long[] shape => Sizes(Info());

        public long ndim => Info().Dimensions;

        public long Dimensions => Info().Dimensions;

        public long NumberOfElements => Info().Elements;

        public long ElementSize => Info().ElementSize;

        public ScalarType dtype => (ScalarType)Info().DType;

        public DeviceType device_type => (DeviceType)Info().DeviceType;

        public int device_index => Info().DeviceIndex;

        public Device device
        {
            get
            {
                var info = Info();
                return new Device((DeviceType)info.DeviceType, info.DeviceIndex);
            }
        }

        public bool is_cuda => device_type == DeviceType.CUDA;

        public bool is_meta => device_type == DeviceType.META;

        public bool is_leaf => NativeMethods.owt_is_leaf(Handle) != 0;

        public bool requires_grad
        {
            get => NativeMethods.owt_requires_grad(Handle) != 0;
            set => NativeMethods.Check(NativeMethods.owt_set_requires_grad(Handle, value ? 1 : 0));
        }

        /// <summary>The gradient, as a new wrapper at each reading, or null.</summary>
        public Tensor? grad
        {
            get
            {
                nint found;
                NativeMethods.Check(NativeMethods.owt_grad(Handle, &found));
                return found == 0 ? null : new Tensor(found);
            }

            set
            {
                NativeMethods.Check(NativeMethods.owt_set_grad(Handle, value?.Handle ?? 0));
                GC.KeepAlive(value);
            }
        }

        /// <summary>A live view of the memory of a contiguous CPU tensor of at most 2 GiB.</summary>
        public Span<byte> bytes
        {
            get
            {
                var info = Info();
                var count = Validated(info, info.Elements * info.ElementSize);
                return new Span<byte>((void*)Data(), count);
            }

            set
            {
                if (value.Length != bytes.Length)
                {
                    throw new ArgumentException("Mismatched data sizes in assignment.");
                }

                value.CopyTo(bytes);
            }
        }

        public long numel() => Info().Elements;

        public long dim() => Info().Dimensions;

        public long element_size() => Info().ElementSize;

        public long storage_offset() => Info().StorageOffset;

        public long[] size() => Sizes(Info());

        public long size(int dim) => At(Sizes(Info()), dim);

        public long[] stride()
        {
            var info = Info();
            return new Span<long>(info.Strides, (int)info.Dimensions).ToArray();
        }

        public long stride(int dim) => At(stride(), dim);

        public bool is_contiguous() => NativeMethods.owt_is_contiguous(Handle) != 0;

        public bool is_cpu() => device_type == DeviceType.CPU;

        public bool is_floating_point() => dtype is ScalarType.Float16 or ScalarType.BFloat16 or ScalarType.Float32 or ScalarType.Float64;

        public bool is_integral() => dtype is ScalarType.Byte or ScalarType.Int8 or ScalarType.Int16 or ScalarType.Int32 or ScalarType.Int64;

        public Tensor with_requires_grad(bool requires_grad = true)
        {
            this.requires_grad = requires_grad;
            return this;
        }

        public Tensor requires_grad_(bool requires_grad = true) => with_requires_grad(requires_grad);

        public Scalar ToScalar() => Op.Scalar("aten::_local_scalar_dense", NumberOfElements == 1 ? this : throw new ArgumentException("Number of elements in the tensor must be 1"));

        public T item<T>()
            where T : unmanaged
        {
            if (NumberOfElements != 1)
            {
                throw new ArgumentException("Number of elements in the tensor must be 1");
            }

            if (!Holds(typeof(T), dtype))
            {
                throw new ArgumentException($"{typeof(T).Name} is not compatible with {dtype}");
            }

            using var here = to(CPU, copy: true);
            return *(T*)here.Data();
        }

        public void ReadBytesFromStream(Stream stream, int bufferSize = 1024)
        {
            ArgumentNullException.ThrowIfNull(stream);
            var info = Info();
            _ = Validated(info, 0);
            var target = (byte*)Data();
            for (var left = info.Elements * info.ElementSize; left > 0;)
            {
                // Straight into the tensor: the buffer's size only bounds one read.
                var part = (int)Math.Min(left, Math.Max(bufferSize, 1));
                stream.ReadExactly(new Span<byte>(target, part));
                target += part;
                left -= part;
            }
        }

        public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"[{string.Join('x', shape)}], type = {dtype}, device = {device}");

        private static bool Holds(Type type, ScalarType dtype) => dtype switch
        {
            ScalarType.Byte => type == typeof(byte),
            ScalarType.Int8 => type == typeof(sbyte),
            ScalarType.Int16 => type == typeof(short),
            ScalarType.Int32 => type == typeof(int),
            ScalarType.Int64 => type == typeof(long),
            ScalarType.Bool => type == typeof(bool),
            ScalarType.Float16 => type == typeof(Half),
            ScalarType.Float32 => type == typeof(float),
            ScalarType.Float64 => type == typeof(double),
            _ => false,
        };

        private static long[] Sizes(in NativeTensorInfo info) => new Span<long>(info.Sizes, (int)info.Dimensions).ToArray();

        private static long At(long[] values, int dim) => values[dim < 0 ? dim + values.Length : dim];

        private NativeTensorInfo Info()
        {
            NativeTensorInfo info;
            NativeMethods.Check(NativeMethods.owt_info_of(Handle, &info));
            return info;
        }

        private nint Data()
        {
            nint data;
            NativeMethods.Check(NativeMethods.owt_data(Handle, &data));
            return data;
        }

        private int Validated(in NativeTensorInfo info, long bytes)
        {
            if (!is_contiguous())
            {
                throw new NotImplementedException("Bytes() called on non-contiguous tensor.");
            }

            if ((DeviceType)info.DeviceType != DeviceType.CPU)
            {
                throw new NotImplementedException("Bytes() called on non-CPU tensor.");
            }

            return bytes <= int.MaxValue ? (int)bytes : throw new NotImplementedException("Tensor is too large to view as a span of bytes.");
        }
    }
}
