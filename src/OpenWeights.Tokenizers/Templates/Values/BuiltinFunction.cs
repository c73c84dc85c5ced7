using OpenWeights.Tokenizers.Templates.Runtime;

namespace OpenWeights.Tokenizers.Templates.Values;

/// <summary>A function or bound method that is written in C#.</summary>
internal sealed class BuiltinFunction(string name, string typeName, Func<RenderState, Arguments, object?> body) : IPyCallable
{
    public string Name { get; } = name;

    /// <summary>Python's name of the type: <c>function</c>, <c>builtin_function_or_method</c>, <c>type</c>.</summary>
    public string TypeName { get; } = typeName;

    public object? Call(RenderState state, Arguments arguments) => body(state, arguments);
}
