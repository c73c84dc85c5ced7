using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Runtime;

/// <summary>jinja2's <c>cycler(...)</c>: goes around its items.</summary>
internal sealed class Cycler(object?[] items)
{
    private int position;

    public object? Attribute(string name) => name switch
    {
        "current" => items[position],
        "items" => new PyTuple(items),
        "pos" => (long)position,
        "next" => new BuiltinFunction("next", "method", (_, _) => Next()),
        "reset" => new BuiltinFunction("reset", "method", (_, _) => Reset()),
        _ => Missing.Value,
    };

    private object? Next()
    {
        var item = items[position];
        position = (position + 1) % items.Length;
        return item;
    }

    private object? Reset()
    {
        position = 0;
        return null;
    }
}

/// <summary>jinja2's <c>joiner(sep)</c>: nothing when it is first called, then its separator.</summary>
internal sealed class Joiner(object? separator) : IPyCallable
{
    private bool isUsed;

    public object? Call(RenderState state, Arguments arguments)
    {
        if (isUsed)
        {
            return separator;
        }

        isUsed = true;
        return PyString.Empty;
    }

    public object? Attribute(string name) => name switch
    {
        "sep" => separator,
        "used" => isUsed,
        _ => Missing.Value,
    };
}
