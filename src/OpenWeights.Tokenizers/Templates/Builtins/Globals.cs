using System.Collections.Frozen;
using System.Diagnostics.CodeAnalysis;

using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Builtins;

/// <summary>The functions that every template sees: jinja2's, and the two that transformers adds.</summary>
internal static class Globals
{
    /// <summary>The sandbox's longest range.</summary>
    private const int MaxRange = 100_000;

    private static readonly FrozenDictionary<string, BuiltinFunction> Functions = new Dictionary<string, BuiltinFunction>
    {
        ["range"] = new("range", "function", Range),
        ["dict"] = new("dict", "type", (state, arguments) => MakeDict(state, arguments)),
        ["namespace"] = new("namespace", "type", (state, arguments) => new PyNamespace(MakeDict(state, arguments))),
        ["cycler"] = new("cycler", "type", MakeCycler),
        ["joiner"] = new("joiner", "type", (_, arguments) => MakeJoiner(arguments)),
        ["lipsum"] = new("lipsum", "function", (_, _) => throw TemplateFailure.Runtime("lipsum() writes random text and is not supported")),
        ["raise_exception"] = new("raise_exception", "function", Raise),
        ["strftime_now"] = new("strftime_now", "function", StrftimeNow),
    }.ToFrozenDictionary();

    public static bool TryGet(string name, [MaybeNullWhen(false)] out BuiltinFunction function) => Functions.TryGetValue(name, out function);

    private static object Range(RenderState state, Arguments arguments)
    {
        var values = new Signature("range", 1, "start", "stop", "step") { TakesKeywords = false }.Fit(arguments);
        var first = PyConvert.ToIndex(values[0]);
        var (start, stop) = values[1] is Missing ? (0, first) : (first, PyConvert.ToIndex(values[1]));
        var step = values[2] is Missing ? 1 : PyConvert.ToIndex(values[2]);
        if (step == 0)
        {
            throw TemplateFailure.Runtime("range() arg 3 must not be zero");
        }

        var range = new PyRange(start, stop, step);
        return range.Count <= MaxRange
            ? range
            : throw TemplateFailure.Limit($"Range too big. The sandbox blocks ranges larger than MAX_RANGE ({MaxRange}).");
    }

    private static PyDict MakeDict(RenderState state, Arguments arguments)
    {
        if (arguments.Positional.Length > 1)
        {
            throw TemplateFailure.Type($"dict expected at most 1 argument, got {arguments.Positional.Length}");
        }

        var source = arguments.Positional.Length == 0 ? null : arguments.Positional[0];
        var dict = new PyDict { Turn = source is PyDict { Turn: var turn } ? turn : 0 };
        if (source is PyDict original)
        {
            state.Step(original.Count);
            foreach (var (key, value) in original.Entries)
            {
                dict.Set(key, value);
            }
        }
        else if (arguments.Positional.Length == 1)
        {
            AddPairs(state, dict, source);
        }

        foreach (var (name, value) in arguments.Keywords)
        {
            dict.Set(PyString.Of(name), value);
        }

        return dict;
    }

    private static void AddPairs(RenderState state, PyDict dict, object? pairs)
    {
        var position = 0;
        foreach (var pair in PyConvert.Iterate(state, pairs))
        {
            if (!PyConvert.IsIterable(pair))
            {
                throw TemplateFailure.Type($"cannot convert dictionary update sequence element #{position} to a sequence");
            }

            var items = PyConvert.ToList(state, pair);
            if (items.Count != 2)
            {
                throw TemplateFailure.Runtime($"dictionary update sequence element #{position} has length {items.Count}; 2 is required");
            }

            dict.Set(items[0], items[1]);
            position++;
        }
    }

    private static object MakeCycler(RenderState state, Arguments arguments) => arguments.Positional.Length == 0
        ? throw TemplateFailure.Runtime("at least one item has to be provided")
        : new Cycler(arguments.Positional);

    private static Joiner MakeJoiner(Arguments arguments)
    {
        var separator = new Signature("joiner", 0, "sep").Fit(arguments)[0];
        return new Joiner(separator is Missing ? PyString.Of(", ") : separator);
    }

    private static object? Raise(RenderState state, Arguments arguments)
    {
        var message = new Signature("raise_exception", 1, "message").Fit(arguments)[0];
        throw new TemplateFailure(ChatTemplateErrorKind.Raised, message is null ? "None" : PyConvert.ToStr(state, message).Value);
    }

    private static object StrftimeNow(RenderState state, Arguments arguments)
    {
        var format = new Signature("strftime_now", 1, "format").Fit(arguments)[0];
        return format is PyString text
            ? PyString.Of(Strftime.Format(text.Value, state.Now))
            : throw TemplateFailure.Type($"strftime() argument 1 must be str, not {PyType.Name(format)}");
    }
}
