using System.Collections;
using System.Globalization;
using static TorchSharp.torch;

namespace TorchSharp.Modules;

/// <summary>A list of modules, named by their indexes.</summary>
public class ModuleList<T> : torch.nn.Module, IList<T>
    where T : torch.nn.Module
{
    private readonly List<T> _list;
    private bool _registered;

    public ModuleList(params T[] modules)
        : base(nameof(ModuleList<T>)) => _list = [.. modules];

    public int Count => _list.Count;
    public bool IsReadOnly => false;

    public T this[int index]
    {
        get => _list[index];
        set => _list[index] = value;
    }

    public void Add(T item) => _list.Add(item);
    public void Clear() => _list.Clear();
    public bool Contains(T item) => _list.Contains(item);
    public void CopyTo(T[] array, int arrayIndex) => _list.CopyTo(array, arrayIndex);
    public IEnumerator<T> GetEnumerator() => _list.GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => _list.GetEnumerator();

    public int IndexOf(T item) => _list.IndexOf(item);
    public void Insert(int index, T item) => _list.Insert(index, item);
    public bool Remove(T item) => _list.Remove(item);
    public void RemoveAt(int index) => _list.RemoveAt(index);

    protected override void RegisterComponents()
    {
        if (_registered)
        {
            return;
        }

        _registered = true;
        for (var i = 0; i < _list.Count; i++)
        {
            register_module(i.ToString(CultureInfo.InvariantCulture), _list[i]);
        }
    }
}

/// <summary>A tensor registered as a parameter of its module. It takes over the given tensor and its dispose scope.</summary>
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
