namespace OpenWeights.Tokenizers.Templates;

/// <summary>A failure on its way to <see cref="ChatTemplate"/>, which adds the template's name and line.</summary>
internal sealed class TemplateFailure(ChatTemplateErrorKind kind, string reason, int line = 0) : Exception(reason)
{
    public ChatTemplateErrorKind Kind { get; } = kind;

    /// <summary>The line, where the thrower knows it better than the statement that is running; else 0.</summary>
    public int Line { get; } = line;

    public static TemplateFailure Syntax(string reason, int line) => new(ChatTemplateErrorKind.Syntax, reason, line);

    public static TemplateFailure Type(string reason) => new(ChatTemplateErrorKind.Type, reason);

    public static TemplateFailure Runtime(string reason) => new(ChatTemplateErrorKind.Runtime, reason);

    public static TemplateFailure Limit(string reason) => new(ChatTemplateErrorKind.Limit, reason);

    /// <summary>Stops a recursion over template or data before the stack ends.</summary>
    public static void GuardStack()
    {
        if (!System.Runtime.CompilerServices.RuntimeHelpers.TryEnsureSufficientExecutionStack())
        {
            throw Limit("maximum recursion depth exceeded: the template or its data nests too deeply");
        }
    }
}
