using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Builtins;

/// <summary>The methods of dicts.</summary>
internal static class DictMethods
{
    private static readonly Signature Get = new("get", 1, "key", "default") { TakesKeywords = false };

    /// <summary>A bound method; <see cref="Missing.Value"/> if there is none of that name.</summary>
    public static object Attribute(PyDict dict, string name) => name switch
    {
        "get" => Bound(name, arguments =>
        {
            var values = Get.Fit(arguments);
            return dict.TryGet(values[0], out var value) ? value : values[1] is Missing ? null : values[1];
        }),
        "items" => View(dict, name, DictViewKind.Items),
        "keys" => View(dict, name, DictViewKind.Keys),
        "values" => View(dict, name, DictViewKind.Values),
        "copy" => Bound(name, arguments =>
        {
            _ = new Signature(name, 0).Fit(arguments);
            var copy = new PyDict { Turn = dict.Turn };
            foreach (var (key, value) in dict.Entries)
            {
                copy.Set(key, value);
            }

            return copy;
        }),
        "fromkeys" => new BuiltinFunction(name, "builtin_function_or_method", (state, arguments) =>
        {
            var values = new Signature(name, 1, "iterable", "value").Fit(arguments);
            var made = new PyDict();
            foreach (var key in PyConvert.Iterate(state, values[0]))
            {
                made.Set(key, values[1] is Missing ? null : values[1]);
            }

            return made;
        }),
        "clear" or "pop" or "popitem" or "setdefault" or "update" => Undefined.Unsafe(dict, name),
        _ => Missing.Value,
    };

    private static BuiltinFunction View(PyDict dict, string name, DictViewKind kind) => Bound(name, arguments =>
    {
        _ = new Signature(name, 0).Fit(arguments);
        return new DictView(dict, kind);
    });

    private static BuiltinFunction Bound(string name, Func<Arguments, object?> body) =>
        new(name, "builtin_function_or_method", (_, arguments) => body(arguments));
}
