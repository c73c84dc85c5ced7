using OpenWeights.Tokenizers.Templates.Runtime;

namespace OpenWeights.Tokenizers.Templates.Values;

/// <summary>The parameters of a built-in: fits the arguments of a call to them as Python does.</summary>
/// <param name="function">The name for messages.</param>
/// <param name="required">How many of the names must be given.</param>
/// <param name="names">The parameters, in order.</param>
internal sealed class Signature(string function, int required, params string[] names)
{
    /// <summary>Whether arguments may be passed by name.</summary>
    public bool TakesKeywords { get; init; } = true;

    /// <summary>A value for each parameter; <see cref="Missing.Value"/> where none was passed.</summary>
    /// <exception cref="TemplateFailure">The arguments do not fit.</exception>
    public object?[] Fit(Arguments arguments)
    {
        if (arguments.Positional.Length > names.Length)
        {
            var takes = required == names.Length ? $"{required}" : $"from {required} to {names.Length}";
            throw TemplateFailure.Type(
                $"{function}() takes {takes} positional argument{(names.Length == 1 ? "" : "s")} but {arguments.Positional.Length} were given");
        }

        var values = new object?[names.Length];
        Array.Fill(values, Missing.Value);
        arguments.Positional.CopyTo(values, 0);
        foreach (var (name, value) in arguments.Keywords)
        {
            if (!TakesKeywords)
            {
                throw TemplateFailure.Type($"{function}() takes no keyword arguments");
            }

            var at = Array.IndexOf(names, name);
            if (at < 0)
            {
                throw TemplateFailure.Type($"{function}() got an unexpected keyword argument {PyRepr.Quote(name)}");
            }

            if (!ReferenceEquals(values[at], Missing.Value))
            {
                throw TemplateFailure.Type($"{function}() got multiple values for argument {PyRepr.Quote(name)}");
            }

            values[at] = value;
        }

        for (var i = 0; i < required; i++)
        {
            if (ReferenceEquals(values[i], Missing.Value))
            {
                throw TemplateFailure.Type($"{function}() missing 1 required positional argument: {PyRepr.Quote(names[i])}");
            }
        }

        return values;
    }
}
