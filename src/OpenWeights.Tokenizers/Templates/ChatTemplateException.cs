namespace OpenWeights.Tokenizers.Templates;

/// <summary>
/// A chat template could not be parsed or rendered. <see cref="Exception.Message"/> names the template, the line and what is wrong;
/// <see cref="Reason"/> is the bare reason, in the words that jinja2 and Python use for it.
/// </summary>
public sealed class ChatTemplateException : Exception
{
    /// <summary>Describes a failure without a place in a template.</summary>
    /// <param name="message">What is wrong.</param>
    public ChatTemplateException(string message)
        : this(message, (Exception?)null)
    {
    }

    /// <summary>Describes a failure without a place in a template.</summary>
    /// <param name="message">What is wrong.</param>
    /// <param name="innerException">What caused it.</param>
    public ChatTemplateException(string message, Exception? innerException)
        : base(message, innerException)
    {
        Reason = message;
        TemplateName = string.Empty;
        Kind = ChatTemplateErrorKind.Runtime;
    }

    /// <summary>Describes a failure without a message.</summary>
    public ChatTemplateException()
        : this("the chat template failed")
    {
    }

    internal ChatTemplateException(string templateName, int line, ChatTemplateErrorKind kind, string reason, Exception? inner = null)
        : base(line > 0 ? $"{templateName}, line {line}: {reason}" : $"{templateName}: {reason}", inner)
    {
        TemplateName = templateName;
        Line = line;
        Kind = kind;
        Reason = reason;
    }

    /// <summary>What kind of failure this is; <see cref="ChatTemplateErrorKind.Raised"/> is the template's own refusal.</summary>
    public ChatTemplateErrorKind Kind { get; }

    /// <summary>The reason alone: for <c>raise_exception(message)</c> exactly that message.</summary>
    public string Reason { get; }

    /// <summary>The line of the template, from 1; 0 where the failure has no line.</summary>
    public int Line { get; }

    /// <summary>The name that the template was parsed under.</summary>
    public string TemplateName { get; }
}
