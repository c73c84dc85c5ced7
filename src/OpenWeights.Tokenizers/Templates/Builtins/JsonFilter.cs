using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Builtins;

/// <summary>transformers' <c>tojson</c>: <c>json.dumps</c> that leaves what is not ASCII as it is and escapes no HTML.</summary>
internal static class JsonFilter
{
    private const int WidestIndent = 1000;

    public static object ToJson(RenderState state, object?[] arguments)
    {
        var indent = Filters.Or(arguments[2], null) switch
        {
            null => null,
            PyString text => text.Value,
            var width => new string(' ', (int)Math.Clamp(PyConvert.ToIndex(width), 0, WidestIndent)),
        };
        var (itemSeparator, keySeparator) = Separators(state, Filters.Or(arguments[3], null), indent is not null);
        var builder = state.NewText();
        new JsonWriter(builder, Filters.IsOn(arguments[1]), indent, itemSeparator, keySeparator, Filters.IsOn(arguments[4])).Write(arguments[0]);
        return builder.Build();
    }

    private static (string Item, string Key) Separators(RenderState state, object? separators, bool isIndented)
    {
        if (separators is null)
        {
            return (isIndented ? "," : ", ", ": ");
        }

        return PyConvert.ToList(state, separators) is [PyString item, PyString key]
            ? (item.Value, key.Value)
            : throw TemplateFailure.Type("separators must be a pair of strings");
    }
}
