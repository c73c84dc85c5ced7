using OpenWeights.LibTorch.Native;

namespace TorchSharp;

public static partial class torch
{
    /// <summary>A libtorch tensor. It is native memory: dispose it, or create it inside a dispose scope.</summary>
    public partial class Tensor : IDisposable
    {
        private static long s_totalCount;
        private nint _handle;

        internal Tensor(nint handle, bool register = true)
        {
            _handle = handle;
            if (handle == 0)
            {
                // The undefined tensor, for a missing gradient. It owns nothing.
                GC.SuppressFinalize(this);
                return;
            }

            _ = Interlocked.Increment(ref s_totalCount);
            if (register)
            {
                OwningDisposeScope = DisposeScopeManager.Thread.Register(this);
            }
        }

        ~Tensor() => Dispose(false);

        public static long TotalCount => Interlocked.Read(ref s_totalCount);
        public bool IsInvalid => _handle == 0;

        public nint Handle
        {
            get
            {
                if (_handle == 0)
                {
                    throw new InvalidOperationException("Tensor invalid -- empty handle.");
                }

                return _handle;
            }
        }

        internal DisposeScope? OwningDisposeScope { get; set; }

        /// <summary>Whether shapes and all values are equal.</summary>
        public bool Equals(Tensor target) => Op.Scalar("aten::equal", this, target).ToBoolean();
        public override bool Equals(object? obj) => obj is Tensor other && Equals(other);
        public override int GetHashCode() => base.GetHashCode();

        public void Dispose()
        {
            Dispose(true);
            GC.SuppressFinalize(this);
        }

        protected virtual void Dispose(bool disposing)
        {
            var handle = Interlocked.Exchange(ref _handle, 0);
            if (handle == 0)
            {
                return;
            }

            DisposeScopeManager.Thread.CountDisposal(OwningDisposeScope);
            OwningDisposeScope?.Forget(this);
            OwningDisposeScope = null;
            _ = Interlocked.Decrement(ref s_totalCount);
            NativeMethods.owt_release(handle);
        }

        public Tensor MoveToOuterDisposeScope()
        {
            _ = OwningDisposeScope?.MoveToOuter(this);
            return this;
        }

        public Tensor MoveToOtherDisposeScope(DisposeScope other)
        {
            ArgumentNullException.ThrowIfNull(other);
            if (OwningDisposeScope is null)
            {
                other.Attach(this);
            }
            else
            {
                _ = OwningDisposeScope.MoveToOther(other, this);
            }

            return this;
        }

        public Tensor DetachFromDisposeScope()
        {
            _ = OwningDisposeScope?.Detach(this);
            return this;
        }

        /// <summary>Removes the native tensor from this wrapper, which is then empty.</summary>
        internal nint TakeHandle(out DisposeScope? scope)
        {
            scope = OwningDisposeScope;
            scope?.Forget(this);
            OwningDisposeScope = null;
            var handle = Handle;
            _handle = 0;
            _ = Interlocked.Decrement(ref s_totalCount);
            GC.SuppressFinalize(this);
            return handle;
        }

        /// <summary>An owned handle of the same native tensor, for the graph.</summary>
        internal nint RetainHandle()
        {
            NativeMethods.owt_retain(Handle);
            return _handle;
        }
    }
}
