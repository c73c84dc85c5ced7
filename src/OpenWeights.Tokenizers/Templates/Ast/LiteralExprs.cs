using OpenWeights.Tokenizers.Templates.Scoping;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Ast;

/// <summary>A number, a truth value, None.</summary>
internal sealed class ConstExpr(object? value, int line) : Expr(line)
{
    public override object? Evaluate(Activation activation) => value;
}

/// <summary>A string in quotes.</summary>
internal sealed class StringExpr(string value, int line) : Expr(line)
{
    private readonly PyString text = PyString.Of(value);

    public override object? Evaluate(Activation activation)
    {
        var state = activation.State;
        return state.Tracing && state.Turn != 0 && text.Value.Length > 0
            ? new PyString(text.Value, [new MarkRun(text.Value.Length, new Mark { Turn = state.Turn })])
            : text;
    }
}

/// <summary>A variable.</summary>
internal sealed class NameExpr(string name, int line) : Expr(line)
{
    private Slot slot;

    public string Name { get; } = name;

    public override void Declare(Symbols symbols) => symbols.Read(Name);

    public override void Bind(BindFrame frame) => slot = frame.Locate(Name);

    public override object? Evaluate(Activation activation)
    {
        var value = activation.Get(slot);
        return ReferenceEquals(value, Missing.Value) ? Undefined.Variable(Name) : value;
    }
}

/// <summary><c>(a, b)</c></summary>
internal sealed class TupleExpr(Expr[] items, int line) : Expr(line)
{
    public override IEnumerable<Node> Children => items;

    public override object? Evaluate(Activation activation) =>
        new PyTuple(Array.ConvertAll(items, item => item.Evaluate(activation)));
}

/// <summary><c>[a, b]</c></summary>
internal sealed class ListExpr(Expr[] items, int line) : Expr(line)
{
    public override IEnumerable<Node> Children => items;

    public override object? Evaluate(Activation activation)
    {
        var values = new List<object?>(items.Length);
        foreach (var item in items)
        {
            values.Add(item.Evaluate(activation));
        }

        return new PyList(values);
    }
}

/// <summary><c>{a: b}</c></summary>
internal sealed class DictExpr(KeyValuePair<Expr, Expr>[] items, int line) : Expr(line)
{
    public override IEnumerable<Node> Children => items.SelectMany(item => new Node[] { item.Key, item.Value });

    public override object? Evaluate(Activation activation)
    {
        var dict = new PyDict();
        foreach (var (key, value) in items)
        {
            dict.Set(key.Evaluate(activation), value.Evaluate(activation));
        }

        return dict;
    }
}

/// <summary><c>start:stop:step</c></summary>
internal sealed class SliceExpr(Expr? start, Expr? stop, Expr? step, int line) : Expr(line)
{
    public override IEnumerable<Node> Children => new[] { start, stop, step }.OfType<Expr>();

    public override object? Evaluate(Activation activation) =>
        new PySlice(start?.Evaluate(activation), stop?.Evaluate(activation), step?.Evaluate(activation));
}
