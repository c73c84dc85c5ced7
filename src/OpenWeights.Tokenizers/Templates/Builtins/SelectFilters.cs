using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Builtins;

/// <summary><c>map</c>, <c>select</c>, <c>reject</c>, <c>selectattr</c> and <c>rejectattr</c>: generators over a sequence.</summary>
internal static class SelectFilters
{
    public static object? Map(RenderState state, Arguments arguments)
    {
        return new PyGenerator(Mapped());

        IEnumerable<object?> Mapped()
        {
            var value = Subject(arguments, "map");
            if (!PyConvert.IsTrue(value))
            {
                yield break;
            }

            var function = MapFunction(state, arguments);
            foreach (var item in PyConvert.Iterate(state, value))
            {
                yield return function(item);
            }
        }
    }

    /// <param name="state">The render.</param>
    /// <param name="arguments">The sequence, the attribute if one is tested, the test and its arguments.</param>
    /// <param name="keeps">Whether items that pass the test are kept, or those that fail it.</param>
    /// <param name="byAttribute">Whether an attribute of the items is tested.</param>
    public static object? Select(RenderState state, Arguments arguments, bool keeps, bool byAttribute)
    {
        return new PyGenerator(Selected());

        IEnumerable<object?> Selected()
        {
            var value = Subject(arguments, "select");
            if (!PyConvert.IsTrue(value))
            {
                yield break;
            }

            var test = TestFunction(state, arguments, byAttribute);
            foreach (var item in PyConvert.Iterate(state, value))
            {
                if (test(item) == keeps)
                {
                    yield return item;
                }
            }
        }
    }

    private static object? Subject(Arguments arguments, string filter) => arguments.Positional.Length > 0
        ? arguments.Positional[0]
        : throw TemplateFailure.Type($"{filter}() missing 1 required positional argument: 'value'");

    private static Func<object?, object?> MapFunction(RenderState state, Arguments arguments)
    {
        if (arguments.Positional.Length == 1 && Array.Exists(arguments.Keywords, keyword => keyword.Key == "attribute"))
        {
            var options = new Signature("map", 0, "attribute", "default").Fit(new Arguments([], arguments.Keywords));
            var getter = AttributeGetter.Of(options[0], Filters.Or(options[1], null));
            return item => getter.Get(state, item);
        }

        if (arguments.Positional.Length < 2)
        {
            throw TemplateFailure.Runtime("map requires a filter argument");
        }

        var filter = Filters.Get(Name(arguments.Positional[1]));
        var passed = arguments with { Positional = arguments.Positional[2..] };
        return item => filter.Call(state, passed.WithFirst(item));
    }

    private static Func<object?, bool> TestFunction(RenderState state, Arguments arguments, bool byAttribute)
    {
        var first = byAttribute ? 2 : 1;
        if (arguments.Positional.Length < first)
        {
            throw TemplateFailure.Runtime("Missing parameter for attribute name");
        }

        var getter = AttributeGetter.Of(byAttribute ? arguments.Positional[1] : null);
        if (arguments.Positional.Length == first)
        {
            return item => PyConvert.IsTrue(getter.Get(state, item));
        }

        var test = Tests.Get(Name(arguments.Positional[first]));
        var passed = arguments with { Positional = arguments.Positional[(first + 1)..] };
        return item => PyConvert.IsTrue(test.Call(state, passed.WithFirst(getter.Get(state, item))));
    }

    private static string Name(object? value) =>
        value is PyString name ? name.Value : throw TemplateFailure.Runtime($"No filter or test named {PyRepr.Of(value)}.");
}
