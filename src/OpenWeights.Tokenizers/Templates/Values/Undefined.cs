using OpenWeights.Tokenizers.Templates.Runtime;

namespace OpenWeights.Tokenizers.Templates.Values;

/// <summary>
/// jinja2's Undefined: prints as nothing, is false and empty, and fails when anything else is done with it.
/// </summary>
/// <param name="name">The name or key that was looked for.</param>
/// <param name="owner">The object that lacks it; <see cref="Missing"/> for a variable.</param>
/// <param name="hint">The whole message, where it is not made from the name and the owner.</param>
/// <param name="isUnsafe">Whether the value exists but the sandbox keeps it back.</param>
internal sealed class Undefined(object? name, object? owner, string? hint = null, bool isUnsafe = false)
{
    public static Undefined Variable(string name) => new(name, Missing.Value);

    public static Undefined Because(string hint) => new(null, Missing.Value, hint);

    /// <summary>An attribute that exists in Python but that the immutable sandbox does not hand out.</summary>
    public static Undefined Unsafe(object? owner, string name) =>
        new(name, owner, $"access to attribute {PyRepr.Quote(name)} of {PyRepr.Quote(PyType.Name(owner))} object is unsafe.", isUnsafe: true);

    /// <summary>The error for using it.</summary>
    public TemplateFailure Failure() =>
        new(isUnsafe ? ChatTemplateErrorKind.Security : ChatTemplateErrorKind.Undefined, Message());

    private string Message()
    {
        if (hint is not null)
        {
            return hint;
        }

        if (ReferenceEquals(owner, Missing.Value))
        {
            return $"{PyRepr.Quote((string)name!)} is undefined";
        }

        var text = name switch { string s => s, PyString s => s.Value, _ => null };
        var described = owner is null ? "None" : $"{PyType.QualifiedName(owner)} object";
        return text is null
            ? $"{described} has no element {PyRepr.Of(name)}"
            : $"{PyRepr.Quote(described)} has no attribute {PyRepr.Quote(text)}";
    }
}
