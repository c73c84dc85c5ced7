using static TorchSharp.torch;

namespace TorchSharp.Modules;

/// <summary>A tensor that a module counts among its parameters. It takes the place, and the dispose scope, of the tensor given.</summary>
public class Parameter : Tensor
{
    public Parameter(Tensor data, bool requires_grad = true)
        : this(data.with_requires_grad(requires_grad).TakeHandle(out var scope), scope)
    {
    }

    private Parameter(nint handle, DisposeScope? scope)
        : base(handle, register: false)
    {
        OwningDisposeScope = scope;
        scope?.Include(this);
    }
}
