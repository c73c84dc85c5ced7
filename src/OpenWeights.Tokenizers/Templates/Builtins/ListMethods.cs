using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Builtins;

/// <summary>The methods of lists, tuples and ranges that do not change them.</summary>
internal static class ListMethods
{
    /// <summary>A bound method; <see cref="Missing.Value"/> if there is none of that name.</summary>
    public static object? Attribute(object sequence, string name)
    {
        if (sequence is PyTuple { Names: { } names } tuple && Array.IndexOf(names, name) is >= 0 and var at)
        {
            return tuple.Items[at];
        }

        return (sequence, name) switch
        {
            (_, "count") => new BuiltinFunction(name, "builtin_function_or_method", (state, arguments) => Count(state, sequence, arguments)),
            (_, "index") => new BuiltinFunction(name, "builtin_function_or_method", (state, arguments) => Index(state, sequence, arguments)),
            (PyList list, "copy") => new BuiltinFunction(name, "builtin_function_or_method", (state, _) => Copy(state, list)),
            (PyList, "append" or "clear" or "pop" or "reverse" or "insert" or "sort" or "extend" or "remove") =>
                Undefined.Unsafe(sequence, name),
            (PyRange range, "start") => range.Start,
            (PyRange range, "stop") => range.Stop,
            (PyRange range, "step") => range.Step,
            _ => Missing.Value,
        };
    }

    private static PyList Copy(RenderState state, PyList list) => new(PyConvert.ToList(state, list));

    private static object Count(RenderState state, object sequence, Arguments arguments)
    {
        var sought = new Signature("count", 1, "value").Fit(arguments)[0];
        return (long)PyConvert.Iterate(state, sequence).Count(item => PyOperators.AreEqual(item, sought));
    }

    private static object Index(RenderState state, object sequence, Arguments arguments)
    {
        var values = new Signature("index", 1, "value", "start", "stop").Fit(arguments);
        var items = PyConvert.ToList(state, sequence);
        var bounds = new PySlice(values[1] is Missing ? null : values[1], values[2] is Missing ? null : values[2], null);
        var (start, _, count) = PyAccess.Bounds(bounds, items.Count);
        for (var i = (int)start; i < start + count; i++)
        {
            if (PyOperators.AreEqual(items[i], values[0]))
            {
                return (long)i;
            }
        }

        var type = PyType.Name(sequence);
        throw TemplateFailure.Runtime(sequence is PyTuple ? "tuple.index(x): x not in tuple" : $"{PyRepr.Of(values[0])} is not in {type}");
    }
}
