using OpenWeights.LibTorch.Native;

namespace TorchSharp;

public static partial class torch
{
    public static Generator manual_seed(long seed) => random.manual_seed(seed);
    public static Tensor get_rng_state() => random.get_rng_state();
    public static void set_rng_state(Tensor new_state) => random.set_rng_state(new_state);

    public static class random
    {
        /// <summary>Seeds the CPU generator only.</summary>
        public static Generator manual_seed(long seed) => Generator.Default.manual_seed(seed);
        public static Tensor get_rng_state() => Generator.Default.get_state();
        public static void set_rng_state(Tensor new_state) => Generator.Default.set_state(new_state);
    }

    public static unsafe class cuda
    {
        public static bool is_available() => NativeMethods.owt_cuda_devices() > 0;
        public static int device_count() => NativeMethods.owt_cuda_devices();
        public static void manual_seed_all(long seed) => NativeMethods.Check(NativeMethods.owt_cuda_manual_seed_all((ulong)seed));
        public static void synchronize(Device? device = null) => NativeMethods.Check(NativeMethods.owt_cuda_synchronize(device?.index ?? -1));
    }

    public static class backends
    {
        public static class cuda
        {
            public static class matmul
            {
                public static bool allow_tf32
                {
                    get => NativeMethods.owt_tf32() != 0;
                    set => NativeMethods.owt_set_tf32(value ? 1 : 0);
                }
            }
        }
    }

    /// <summary>The state of a random number generator.</summary>
    public unsafe class Generator : IDisposable
    {
        private nint _handle;

        public Generator(ulong seed = 0, Device? device = null)
        {
            this.device = device ?? CPU;
            nint handle;
            if (this.device.type == DeviceType.CPU)
            {
                NativeMethods.Check(NativeMethods.owt_new_generator(seed, &handle));
                _handle = handle;
                return;
            }

            NativeMethods.Check(NativeMethods.owt_default_generator((int)this.device.type, this.device.index, &handle));
            _handle = handle;
            _ = manual_seed((long)seed);
        }

        private Generator()
        {
            device = CPU;
            nint handle;
            NativeMethods.Check(NativeMethods.owt_default_generator((int)DeviceType.CPU, -1, &handle));
            _handle = handle;
        }

        ~Generator() => Dispose(false);

        /// <summary>The CPU generator, as a new wrapper: disposing it does not affect the generator.</summary>
        public static Generator Default => new();

        public Device device { get; }

        public nint Handle
        {
            get
            {
                ObjectDisposedException.ThrowIf(_handle == 0, this);
                return _handle;
            }
        }

        public Generator manual_seed(long seed)
        {
            NativeMethods.Check(NativeMethods.owt_generator_set_seed(Handle, (ulong)seed));
            return this;
        }

        public Tensor get_state()
        {
            nint state;
            NativeMethods.Check(NativeMethods.owt_generator_state(Handle, &state));
            return new Tensor(state);
        }

        public void set_state(Tensor value)
        {
            ArgumentNullException.ThrowIfNull(value);
            NativeMethods.Check(NativeMethods.owt_generator_set_state(Handle, value.Handle));
            GC.KeepAlive(value);
        }

        public void Dispose()
        {
            Dispose(true);
            GC.SuppressFinalize(this);
        }

        protected virtual void Dispose(bool disposing)
        {
            if (_handle != 0)
            {
                NativeMethods.owt_generator_release(_handle);
                _handle = 0;
            }
        }
    }
}
