using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Runtime;

/// <summary>A macro, or the body of a call block: what <c>{% macro %}</c> binds its name to.</summary>
/// <param name="name">Its name; null for a call block's body.</param>
/// <param name="parameters">Its declared parameters.</param>
/// <param name="extras">Which of <c>caller</c>, <c>kwargs</c> and <c>varargs</c> its body uses without declaring them.</param>
/// <param name="invoke">Runs the body with a value for each parameter and extra, in that order.</param>
internal sealed class Macro(string? name, string[] parameters, MacroExtras extras, Func<object?[], PyString> invoke) : IPyCallable
{
    public string? Name { get; } = name;

    public object? Call(RenderState state, Arguments arguments)
    {
        var given = arguments.Positional;
        var keywords = new List<KeyValuePair<string, object?>>(arguments.Keywords);
        var values = new List<object?>(parameters.Length + 3);
        values.AddRange(given.Take(parameters.Length));

        var foundCaller = values.Count == parameters.Length && parameters.Contains("caller");
        foreach (var parameter in parameters.Skip(values.Count))
        {
            foundCaller |= parameter == "caller";
            values.Add(Take(keywords, parameter));
        }

        if (extras.HasFlag(MacroExtras.Caller) && !foundCaller)
        {
            var caller = Take(keywords, "caller");
            values.Add(caller is null or Missing ? new Undefined("caller", Missing.Value, "No caller defined") : caller);
        }

        if (extras.HasFlag(MacroExtras.Kwargs))
        {
            var rest = new PyDict();
            keywords.ForEach(keyword => rest.Set(PyString.Of(keyword.Key), keyword.Value));
            values.Add(rest);
        }
        else if (keywords.Count > 0)
        {
            throw TemplateFailure.Type(keywords.Exists(keyword => keyword.Key == "caller")
                ? $"macro {PyRepr.Of(Title)} was invoked with two values for the special caller argument. This is most likely a bug."
                : $"macro {PyRepr.Of(Title)} takes no keyword argument {PyRepr.Quote(keywords[0].Key)}");
        }

        if (extras.HasFlag(MacroExtras.Varargs))
        {
            values.Add(new PyTuple([.. given.Skip(parameters.Length)]));
        }
        else if (given.Length > parameters.Length)
        {
            throw TemplateFailure.Type($"macro {PyRepr.Of(Title)} takes not more than {parameters.Length} argument(s)");
        }

        var text = invoke([.. values]);
        return state.Autoescape ? text.AsMarkup() : text;
    }

    public object? Attribute(string attribute) => attribute switch
    {
        "name" => Title,
        "arguments" => new PyTuple([.. parameters.Select(PyString.Of)]),
        "catch_kwargs" => extras.HasFlag(MacroExtras.Kwargs),
        "catch_varargs" => extras.HasFlag(MacroExtras.Varargs),
        "caller" => extras.HasFlag(MacroExtras.Caller),
        _ => Missing.Value,
    };

    private PyString? Title => Name is null ? null : PyString.Of(Name);

    private static object? Take(List<KeyValuePair<string, object?>> keywords, string name)
    {
        var at = keywords.FindIndex(keyword => keyword.Key == name);
        if (at < 0)
        {
            return Missing.Value;
        }

        var value = keywords[at].Value;
        keywords.RemoveAt(at);
        return value;
    }
}

/// <summary>Special variables that a macro's body uses besides its parameters.</summary>
[Flags]
internal enum MacroExtras
{
    None = 0,
    Caller = 1,
    Kwargs = 2,
    Varargs = 4,
}
