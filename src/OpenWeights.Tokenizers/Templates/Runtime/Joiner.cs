using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Runtime;

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
