using System.Globalization;

using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Builtins;

/// <summary>The <c>attribute</c> of filters: a path of keys with dots between them, whole numbers being indices.</summary>
internal sealed class AttributeGetter
{
    private readonly object?[] parts;
    private readonly object? usual;
    private readonly bool ignoresCase;

    private AttributeGetter(object?[] parts, object? usual, bool ignoresCase)
    {
        this.parts = parts;
        this.usual = usual;
        this.ignoresCase = ignoresCase;
    }

    /// <param name="attribute">The path; None for the item itself.</param>
    /// <param name="usual">Default for an undefined value; None for no default.</param>
    /// <param name="ignoresCase">Whether a string is answered in lower case.</param>
    public static AttributeGetter Of(object? attribute, object? usual = null, bool ignoresCase = false) => attribute switch
    {
        null => new([], usual, ignoresCase),
        PyString path => new([.. path.Value.Split('.').Select(Part)], usual, ignoresCase),
        _ => new([attribute], usual, ignoresCase),
    };

    /// <summary>The getters of a list of paths with commas between them.</summary>
    public static AttributeGetter[] AllOf(object? attribute, bool ignoresCase) => attribute is PyString paths
        ? [.. paths.Value.Split(',').Select(path => Of(PyString.Of(path), null, ignoresCase))]
        : [Of(attribute, null, ignoresCase)];

    public object? Get(RenderState state, object? item)
    {
        foreach (var part in parts)
        {
            item = PyAccess.Item(state, item, part);
            if (usual is not null && item is Undefined)
            {
                item = usual;
            }
        }

        return ignoresCase && item is PyString text ? TextTools.Lower(text) : item;
    }

    private static object? Part(string text) => text.Length > 0 && text.All(char.IsAsciiDigit)
        && long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var index)
            ? index
            : PyString.Of(text);
}
