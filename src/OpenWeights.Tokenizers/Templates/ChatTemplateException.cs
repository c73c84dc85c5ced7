namespace OpenWeights.Tokenizers.Templates;

/// <summary>
/// A chat template could not be parsed or rendered. <see cref="Exception.Message"/> names the template, the line and what is wrong;
/// <see cref="Reason"/> is the bare reason, in the words that jinja2 and Python use for it.
/// </summary>
public sealed class ChatTemplateException : Exception
{
    internal ChatTemplateException(string templateName, int line, ChatTemplateErrorKind kind, string reason, Exception? inner = null)
        : base(line > 0 ? $"{templateName}, line {line}: {reason}" : $"{templateName}: {reason}", inner)
    {
        TemplateName = templateName;
        Line = line;
        Kind = kind;
        Reason = reason;
    }

    /// <summary>The kind of failure; <see cref="ChatTemplateErrorKind.Raised"/> is the template's own refusal.</summary>
    public ChatTemplateErrorKind Kind { get; }

    /// <summary>The reason alone: for <c>raise_exception(message)</c> exactly that message.</summary>
    public string Reason { get; }

    /// <summary>The line of the template, from 1; 0 where the failure has no line.</summary>
    public int Line { get; }

    /// <summary>The name that the template was parsed under.</summary>
    public string TemplateName { get; }
}

/// <summary>Kinds of failures of a chat template.</summary>
public enum ChatTemplateErrorKind
{
    /// <summary>The template is not well-formed; found when it is parsed.</summary>
    Syntax,

    /// <summary>The template itself refused its input: it called <c>raise_exception(message)</c>.</summary>
    Raised,

    /// <summary>A value that does not exist was used in a way that needs a value.</summary>
    Undefined,

    /// <summary>An operation got a value of the wrong type (Python's <c>TypeError</c>).</summary>
    Type,

    /// <summary>Any other error of the running template: a division by zero, a bad format string, a missing filter.</summary>
    Runtime,

    /// <summary>The template reached for something that the sandbox keeps from it, such as a method that changes a list.</summary>
    Security,

    /// <summary>The template ran too long, nested too deeply or wrote too much, and was stopped.</summary>
    Limit,

    /// <summary>The rendered text is fine, but which of its characters the assistant has to produce cannot be told.</summary>
    Spans,
}

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
