using OpenWeights.Tokenizers.Templates.Runtime;

namespace OpenWeights.Tokenizers.Templates.Values;

/// <summary>A value that a template can call.</summary>
internal interface IPyCallable
{
    object? Call(RenderState state, Arguments arguments);
}

/// <summary>Arguments of a call.</summary>
/// <param name="Positional">By position.</param>
/// <param name="Keywords">By name, in the order of the call.</param>
internal readonly record struct Arguments(object?[] Positional, KeyValuePair<string, object?>[] Keywords)
{
    /// <summary>The same with a value before the first: the subject of a filter or test.</summary>
    public Arguments WithFirst(object? value) => this with { Positional = [value, .. Positional] };
}

/// <summary>A function or bound method that is written in C#.</summary>
internal sealed class BuiltinFunction(string name, string typeName, Func<RenderState, Arguments, object?> body) : IPyCallable
{
    public string Name { get; } = name;

    /// <summary>Python's name of the type: <c>function</c>, <c>builtin_function_or_method</c>, <c>type</c>.</summary>
    public string TypeName { get; } = typeName;

    public object? Call(RenderState state, Arguments arguments) => body(state, arguments);
}
