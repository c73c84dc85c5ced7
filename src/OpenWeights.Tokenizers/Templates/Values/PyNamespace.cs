namespace OpenWeights.Tokenizers.Templates.Values;

/// <summary>jinja2's <c>namespace()</c>: the one thing a template can change from inside a loop.</summary>
internal sealed class PyNamespace(PyDict attributes)
{
    public PyDict Attributes { get; } = attributes;
}
