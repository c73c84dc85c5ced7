using System.Text;
using System.Text.Json.Nodes;
using OpenWeights.Tokenizers.Templates.Runtime;

namespace OpenWeights.Tokenizers.Templates;

/// <summary>
/// Writes values for a chat template's variables into the template, so that whoever renders it gets what was meant, without being told of
/// transformers' <c>chat_template_kwargs</c>. A value that is passed at rendering goes before the one that is written here.
/// </summary>
public static class ChatTemplateDefaults
{
    private static readonly string[] Chat = ["messages", "tools", "documents", "add_generation_prompt"];
    private static readonly string[] Tokens = ["bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token"];
    private static readonly string[] Words =
        ["and", "or", "not", "in", "is", "if", "else", "elif", "for", "true", "false", "none", "True", "False", "None", "loop", "self", "caller", "varargs", "kwargs", "import", "recursive"];

    /// <summary>A template with values for variables that nobody passes.</summary>
    /// <param name="template">The template's text.</param>
    /// <param name="values">The values by the variables' names.</param>
    /// <exception cref="ArgumentException">A name cannot be set: see <see cref="Problem"/>.</exception>
    public static string Set(string template, JsonObject values)
    {
        ArgumentNullException.ThrowIfNull(template);
        ArgumentNullException.ThrowIfNull(values);
        var lines = new StringBuilder();
        foreach (var (name, value) in values)
        {
            if (Problem(name) is { } problem)
            {
                throw new ArgumentException(problem, nameof(values));
            }

            _ = lines.Append($"{{%- if {name} is not defined %}}{{% set {name} = {PyRepr.Of(JsonValues.Convert(value))} %}}{{% endif %}}");
        }

        // trim_blocks takes the line's end, and no white space that the template itself begins with.
        return values.Count == 0 ? template : $"{lines}\n{template}";
    }

    /// <summary>One template for both kinds of conversation of a model that has one for each.</summary>
    /// <param name="plain">The template for conversations without tools.</param>
    /// <param name="withTools">The template for conversations with tools.</param>
    public static string Join(string plain, string withTools) =>
        plain == withTools ? plain : $"{{% if tools %}}\n{WithoutLastBreak(withTools)}{{% else %}}\n{WithoutLastBreak(plain)}{{% endif %}}";

    /// <summary>Why a variable cannot be given a value; null where it can.</summary>
    /// <param name="name">Its name.</param>
    public static string? Problem(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        return Chat.Contains(name) ? $"'{name}' is the chat's own, and cannot be set."
            : Tokens.Contains(name) ? $"'{name}' is the tokenizer's, and cannot be set."
            : Words.Contains(name) ? $"'{name}' is a word of the template language, and no variable."
            : name.Length == 0 || char.IsAsciiDigit(name[0]) || !name.All(static c => char.IsAsciiLetterOrDigit(c) || c == '_')
                ? $"'{name}' is no name of a template's variable: such names have letters, digits and _."
            : null;
    }

    // As Jinja takes it off a template's end.
    private static string WithoutLastBreak(string text) => text.EndsWith('\n') ? text[..^1] : text;
}
