using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Scoping;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Ast;

/// <summary>Target of an assignment or a <c>for</c> loop.</summary>
internal abstract class Target(int line) : Node(line)
{
    /// <summary>Notes its names as set from outside the scope.</summary>
    public abstract void DeclareParameters(Symbols symbols);

    public abstract void Assign(Activation activation, object? value);

    /// <summary>The same for binding in another scope.</summary>
    public abstract Target Clone();

    /// <summary>Fails where something that must be a namespace is not, before the value is computed.</summary>
    public virtual void Check(Activation activation)
    {
    }

    /// <summary>Makes its names known to blocks.</summary>
    public virtual void Export(Activation activation)
    {
    }
}

/// <summary>A name.</summary>
internal sealed class NameTarget(string name, int line) : Target(line)
{
    public string Name { get; } = name;

    public Slot Slot { get; private set; }

    public override void Declare(Symbols symbols) => symbols.Store(Name);

    public override void DeclareParameters(Symbols symbols) => symbols.DeclareParameter(Name);

    public override void Bind(BindFrame frame) => Slot = frame.Locate(Name);

    public override void Assign(Activation activation, object? value) => activation.Set(Slot, value);

    public override void Export(Activation activation) => activation.State.Export(Name, activation.Get(Slot));

    public override Target Clone() => new NameTarget(Name, Line);
}

/// <summary>Several targets, each of which gets an item of the value.</summary>
internal sealed class TupleTarget(Target[] items, int line) : Target(line)
{
    public override IEnumerable<Node> Children => items;

    public override void DeclareParameters(Symbols symbols)
    {
        foreach (var item in items)
        {
            item.DeclareParameters(symbols);
        }
    }

    public override void Check(Activation activation)
    {
        foreach (var item in items)
        {
            item.Check(activation);
        }
    }

    public override void Assign(Activation activation, object? value)
    {
        if (!PyConvert.IsIterable(value))
        {
            throw TemplateFailure.Type($"cannot unpack non-iterable {PyType.Name(value)} object");
        }

        var values = PyConvert.Iterate(activation.State, value).Take(items.Length + 1).ToArray();
        if (values.Length != items.Length)
        {
            throw TemplateFailure.Runtime(values.Length < items.Length
                ? $"not enough values to unpack (expected {items.Length}, got {values.Length})"
                : $"too many values to unpack (expected {items.Length})");
        }

        for (var i = 0; i < items.Length; i++)
        {
            items[i].Assign(activation, values[i]);
        }
    }

    public override void Export(Activation activation)
    {
        foreach (var item in items)
        {
            item.Export(activation);
        }
    }

    public override Target Clone() => new TupleTarget(Array.ConvertAll(items, item => item.Clone()), Line);
}

/// <summary>An attribute of a namespace: <c>ns.name</c>.</summary>
internal sealed class NamespaceTarget(string name, string attribute, int line) : Target(line)
{
    private Slot slot;

    public override void Declare(Symbols symbols) => symbols.Read(name);

    public override void DeclareParameters(Symbols symbols) => symbols.Read(name);

    public override void Bind(BindFrame frame) => slot = frame.Locate(name);

    public override void Check(Activation activation)
    {
        if (activation.Get(slot) is not PyNamespace)
        {
            throw TemplateFailure.Runtime("cannot assign attribute on non-namespace object");
        }
    }

    public override void Assign(Activation activation, object? value) =>
        ((PyNamespace)activation.Get(slot)!).Attributes.Set(PyString.Of(attribute), value);

    public override Target Clone() => new NamespaceTarget(name, attribute, Line);
}
