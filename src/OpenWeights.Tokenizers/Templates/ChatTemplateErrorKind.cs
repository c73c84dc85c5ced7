namespace OpenWeights.Tokenizers.Templates;

/// <summary>What went wrong with a chat template.</summary>
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
