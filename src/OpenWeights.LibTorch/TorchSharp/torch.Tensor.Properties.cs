using System.Globalization;
using OpenWeights.LibTorch.Native;

namespace TorchSharp;

public static partial class torch
{
    public unsafe partial class Tensor
    {
        public long[] shape => Sizes();
        public long ndim => Info().Dimensions;
        public long NumberOfElements => Info().Elements;
        public ScalarType dtype => (ScalarType)Info().DType;
        public DeviceType device_type => (DeviceType)Info().DeviceType;

        public int device_index => device.index;

        public Device device
        {
            get
            {
                var info = Info();
                return new Device((DeviceType)info.DeviceType, info.DeviceIndex);
            }
        }

        public bool is_leaf => Asked(NativeMethods.owt_is_leaf(Handle));

        public bool requires_grad
        {
            get => Asked(NativeMethods.owt_requires_grad(Handle));
            set
            {
                NativeMethods.Check(NativeMethods.owt_set_requires_grad(Handle, value ? 1 : 0));
                GC.KeepAlive(this);
            }
        }

        /// <summary>The gradient, as a new wrapper at each access, or null.</summary>
        public Tensor? grad
        {
            get
            {
                nint found;
                NativeMethods.Check(NativeMethods.owt_grad(Handle, &found));
                GC.KeepAlive(this);
                return found == 0 ? null : new Tensor(found);
            }

            set
            {
                NativeMethods.Check(NativeMethods.owt_set_grad(Handle, value?.Handle ?? 0));
                GC.KeepAlive(value);
                GC.KeepAlive(this);
            }
        }

        /// <summary>A view of the memory of a contiguous CPU tensor of at most 2 GiB.</summary>
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
        public long element_size() => Info().ElementSize;
        public long storage_offset() => Info().StorageOffset;
        public long[] size() => Sizes();
        public long size(int dim) => At(Sizes(), dim);

        public long[] stride()
        {
            var info = Info();
            var strides = new Span<long>(info.Strides, (int)info.Dimensions).ToArray();
            GC.KeepAlive(this);
            return strides;
        }

        public long stride(int dim) => At(stride(), dim);
        public bool is_contiguous() => Asked(NativeMethods.owt_is_contiguous(Handle));
        public bool is_floating_point() => dtype is ScalarType.Float16 or ScalarType.BFloat16 or ScalarType.Float32 or ScalarType.Float64;

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

            using var here = device_type == DeviceType.CPU ? null : cpu();
            var value = *(T*)(here ?? this).Data();
            GC.KeepAlive(this);
            return value;
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

        private long[] Sizes()
        {
            var info = Info();
            var sizes = new Span<long>(info.Sizes, (int)info.Dimensions).ToArray();
            GC.KeepAlive(this);
            return sizes;
        }

        // A wrapper that is not kept alive may be finalized, and its tensor freed, while native code uses it.
        private bool Asked(int answer)
        {
            GC.KeepAlive(this);
            return answer != 0;
        }

        private static long At(long[] values, int dim) => values[dim < 0 ? dim + values.Length : dim];

        private NativeTensorInfo Info()
        {
            NativeTensorInfo info;
            NativeMethods.Check(NativeMethods.owt_info_of(Handle, &info));
            GC.KeepAlive(this);
            return info;
        }

        private nint Data()
        {
            nint data;
            NativeMethods.Check(NativeMethods.owt_data(Handle, &data));
            GC.KeepAlive(this);
            return data;
        }

        private int Validated(in NativeTensorInfo info, long bytes)
        {
            if (!is_contiguous())
            {
                throw new InvalidOperationException("Bytes() called on non-contiguous tensor.");
            }

            if ((DeviceType)info.DeviceType != DeviceType.CPU)
            {
                throw new InvalidOperationException("Reading data from non-CPU memory is not supported. Move or copy the tensor to the cpu before reading.");
            }

            return bytes <= int.MaxValue ? (int)bytes : throw new ArgumentException("Span only supports up to int.MaxValue elements.");
        }
    }
}
