using System.Collections.Frozen;
using System.Diagnostics.CodeAnalysis;

using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Builtins;

/// <summary>jinja2's filters, with transformers' <c>tojson</c>.</summary>
internal static class Filters
{
    private static readonly FrozenDictionary<string, BuiltinFunction> Functions = All().ToFrozenDictionary(filter => filter.Name);

    public static bool TryGet(string name, [MaybeNullWhen(false)] out BuiltinFunction filter) => Functions.TryGetValue(name, out filter);

    /// <summary>A filter by name, for <c>map</c>.</summary>
    public static BuiltinFunction Get(string name) =>
        TryGet(name, out var filter) ? filter : throw TemplateFailure.Runtime($"No filter named {PyRepr.Quote(name)}.");

    private static IEnumerable<BuiltinFunction> All() =>
    [
        Of("abs", 1, (_, a) => ValueFilters.Abs(a[0]), "value"),
        Of("attr", 2, (state, a) => ValueFilters.Attr(state, a[0], a[1]), "obj", "name"),
        Of("batch", 2, (state, a) => SequenceFilters.Batch(state, a[0], a[1], Or(a[2], null)), "value", "linecount", "fill_with"),
        Of("capitalize", 1, (state, a) => TextTools.Capitalize(state, Soft(state, a[0])), "s"),
        Of("center", 1, (state, a) => TextFilters.Center(state, Soft(state, a[0]), Or(a[1], 80L)), "value", "width"),
        Of("count", 1, (_, a) => PyConvert.Length(a[0]), "value"),
        Of("d", 1, (_, a) => ValueFilters.Default(a), "value", "default_value", "boolean"),
        Of("default", 1, (_, a) => ValueFilters.Default(a), "value", "default_value", "boolean"),
        Of("dictsort", 1, (state, a) => SequenceFilters.DictSort(state, a), "value", "case_sensitive", "by", "reverse"),
        Of("e", 1, (state, a) => Html.Escape(state, a[0]), "s"),
        Of("escape", 1, (state, a) => Html.Escape(state, a[0]), "s"),
        Of("filesizeformat", 1, (_, a) => ValueFilters.FileSize(a[0], IsOn(a[1])), "value", "binary"),
        Of("first", 1, (state, a) => SequenceFilters.First(state, a[0]), "seq"),
        Of("float", 1, (_, a) => ValueFilters.ToFloat(a[0], Or(a[1], 0.0)), "value", "default"),
        Of("forceescape", 1, (state, a) => Html.Escape(state, Soft(state, a[0]).AsPlain()), "value"),
        new("format", "function", TextFilters.Format),
        Of("groupby", 2, SequenceFilters.GroupBy, "value", "attribute", "default", "case_sensitive"),
        Of("indent", 1, TextFilters.Indent, "s", "width", "first", "blank"),
        Of("int", 1, (_, a) => ValueFilters.ToInt(a[0], Or(a[1], 0L), Or(a[2], 10L)), "value", "default", "base"),
        Of("items", 1, (_, a) => SequenceFilters.Items(a[0]), "value"),
        Of("join", 1, TextFilters.Join, "value", "d", "attribute"),
        Of("last", 1, (state, a) => SequenceFilters.Last(state, a[0]), "seq"),
        Of("length", 1, (_, a) => PyConvert.Length(a[0]), "value"),
        Of("list", 1, (state, a) => new PyList(PyConvert.ToList(state, a[0])), "value"),
        Of("lower", 1, (state, a) => TextTools.Lower(Soft(state, a[0])), "s"),
        new("map", "function", SelectFilters.Map),
        Of("max", 1, (state, a) => SequenceFilters.Extreme(state, a, isMax: true), "value", "case_sensitive", "attribute"),
        Of("min", 1, (state, a) => SequenceFilters.Extreme(state, a, isMax: false), "value", "case_sensitive", "attribute"),
        Unsupported("pprint"),
        Unsupported("random"),
        new("reject", "function", (state, arguments) => SelectFilters.Select(state, arguments, keeps: false, byAttribute: false)),
        new("rejectattr", "function", (state, arguments) => SelectFilters.Select(state, arguments, keeps: false, byAttribute: true)),
        Of("replace", 3, TextFilters.Replace, "s", "old", "new", "count"),
        Of("reverse", 1, (state, a) => SequenceFilters.Reverse(state, a[0]), "value"),
        Of("round", 1, (_, a) => ValueFilters.Round(a[0], Or(a[1], 0L), a[2]), "value", "precision", "method"),
        Of("safe", 1, (state, a) => Soft(state, a[0]).AsMarkup(), "value"),
        new("select", "function", (state, arguments) => SelectFilters.Select(state, arguments, keeps: true, byAttribute: false)),
        new("selectattr", "function", (state, arguments) => SelectFilters.Select(state, arguments, keeps: true, byAttribute: true)),
        Of("slice", 2, (state, a) => SequenceFilters.Slice(state, a[0], a[1], Or(a[2], null)), "value", "slices", "fill_with"),
        Of("sort", 1, SequenceFilters.Sort, "value", "reverse", "case_sensitive", "attribute"),
        Of("string", 1, (state, a) => Soft(state, a[0]), "object"),
        Of("striptags", 1, (state, a) => Derived(Soft(state, a[0]).AsPlain(), Html.StripTags), "value"),
        Of("sum", 1, (state, a) => SequenceFilters.Sum(state, a[0], Or(a[1], null), Or(a[2], 0L)), "iterable", "attribute", "start"),
        Of("title", 1, (state, a) => TextFilters.Title(state, Soft(state, a[0])), "s"),
        Of("tojson", 1, JsonFilter.ToJson, "x", "ensure_ascii", "indent", "separators", "sort_keys"),
        Of("trim", 1, TextFilters.Trim, "value", "chars"),
        Of("truncate", 1, TextFilters.Truncate, "s", "length", "killwords", "end", "leeway"),
        Of("unique", 1, SequenceFilters.Unique, "value", "case_sensitive", "attribute"),
        Of("upper", 1, (state, a) => TextTools.Upper(Soft(state, a[0])), "s"),
        Of("urlencode", 1, (state, a) => UrlFilter.Encode(state, a[0]), "value"),
        Unsupported("urlize"),
        Of("wordcount", 1, (state, a) => TextFilters.WordCount(Soft(state, a[0])), "s"),
        Of("wordwrap", 1, WordWrapFilter.Wrap, "s", "width", "break_long_words", "wrapstring", "break_on_hyphens"),
        Of("xmlattr", 1, (state, a) => TextFilters.XmlAttributes(state, a[0], a[1] is Missing || IsOn(a[1])), "d", "autospace"),
    ];

    /// <summary>A passed value, or the parameter's default.</summary>
    public static object? Or(object? value, object? usual) => value is Missing ? usual : value;

    /// <summary>Whether an optional flag was passed and is true.</summary>
    public static bool IsOn(object? value) => value is not Missing && PyConvert.IsTrue(value);

    private static PyString Soft(RenderState state, object? value) => PyConvert.ToSoftStr(state, value);

    private static PyString Derived(PyString text, Func<string, string> change) => text.Derive(change(text.Value));

    private static BuiltinFunction Of(string name, int required, Func<RenderState, object?[], object?> body, params string[] parameters)
    {
        var signature = new Signature(name, required, parameters);
        return new BuiltinFunction(name, "function", (state, arguments) => body(state, signature.Fit(arguments)));
    }

    private static BuiltinFunction Unsupported(string name) => new(name, "function", (_, _) =>
        throw TemplateFailure.Runtime($"the filter {name} is not supported in chat templates"));
}
