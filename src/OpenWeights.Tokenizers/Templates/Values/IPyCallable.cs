using OpenWeights.Tokenizers.Templates.Runtime;

namespace OpenWeights.Tokenizers.Templates.Values;

/// <summary>A value that a template can call.</summary>
internal interface IPyCallable
{
    object? Call(RenderState state, Arguments arguments);
}
