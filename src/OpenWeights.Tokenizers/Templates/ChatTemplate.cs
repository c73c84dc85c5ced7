using OpenWeights.Tokenizers.Templates.Ast;
using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Spans;
using OpenWeights.Tokenizers.Templates.Syntax;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates;

/// <summary>
/// A chat template: a program in the Jinja language that turns a conversation into a model's prompt. It is parsed once and rendered any
/// number of times, also from several threads at once, as Hugging Face transformers renders it: by jinja2's rules in an immutable
/// sandbox, with <c>trim_blocks</c>, <c>lstrip_blocks</c>, loop controls, <c>tojson</c>, <c>raise_exception</c>, <c>strftime_now</c> and
/// <c>{% generation %}</c>. A template that does not come to an end is stopped.
/// </summary>
public sealed class ChatTemplate
{
    private readonly TemplateNode root;

    private ChatTemplate(string name, TemplateNode root)
    {
        Name = name;
        this.root = root;
    }

    /// <summary>The name that the template was parsed under, for messages.</summary>
    public string Name { get; }

    /// <summary>Whether the template marks what the assistant produces itself, with <c>{% generation %}</c> blocks.</summary>
    public bool HasGenerationBlocks => root.HasGenerationBlocks;

    /// <summary>Parses a template.</summary>
    /// <param name="source">Its text.</param>
    /// <param name="name">Name of the template in messages, usually its path.</param>
    /// <exception cref="ChatTemplateException">It is not well-formed; the message names the line.</exception>
    public static ChatTemplate Parse(string source, string name)
    {
        ArgumentNullException.ThrowIfNull(source);
        ArgumentException.ThrowIfNullOrEmpty(name);
        try
        {
            return new ChatTemplate(name, TemplateParser.Parse(source));
        }
        catch (TemplateFailure failure)
        {
            throw new ChatTemplateException(name, failure.Line, failure.Kind, failure.Message, failure);
        }
    }

    /// <summary>Renders a conversation.</summary>
    /// <param name="input">The conversation and what belongs to it.</param>
    /// <exception cref="ChatTemplateException">The template refused the conversation, failed, or was stopped.</exception>
    /// <exception cref="InvalidDataException">The conversation holds what is no text.</exception>
    public string Render(ChatTemplateInput input)
    {
        ArgumentNullException.ThrowIfNull(input);
        return Execute(Variables(input, isTraced: false), input.LocalTime, isTraced: false).Output.Build().Value;
    }

    /// <summary>
    /// Renders a conversation for training: the text, what each message contributed to it, and which characters the assistant has to
    /// produce. Where the template has <c>{% generation %}</c> blocks, those are the assistant's; else they are found from where each
    /// character comes from and from the prompts that serving would send. For each assistant turn its beginning of the conversation is
    /// rendered again.
    /// </summary>
    /// <param name="input">The conversation and what belongs to it.</param>
    /// <param name="assistantRoles">
    /// The roles of messages that the model produces; null for <c>assistant</c> alone. With none, nothing is looked for or refused.
    /// </param>
    /// <param name="lastTurnAlone">
    /// Whether only the last of the assistant's turns has to be found, which is quicker and does not fail for another; a template's
    /// <c>{% generation %}</c> blocks are given all the same.
    /// </param>
    /// <exception cref="ChatTemplateException">
    /// The template refused the conversation, failed, or was stopped; or, with <see cref="ChatTemplateErrorKind.Spans"/>, what the
    /// assistant produces cannot be told: the message says what to do.
    /// </exception>
    /// <exception cref="InvalidDataException">The conversation holds what is no text.</exception>
    public RenderedChat RenderWithSpans(ChatTemplateInput input, IReadOnlyCollection<string>? assistantRoles = null, bool lastTurnAlone = false)
    {
        ArgumentNullException.ThrowIfNull(input);
        var prompts = new PromptRenderer(this, input);
        try
        {
            return SpanRenderer.Render(this, prompts, input, assistantRoles ?? ["assistant"], lastTurnAlone);
        }
        catch (TemplateFailure failure)
        {
            throw new ChatTemplateException(Name, failure.Line, failure.Kind, failure.Message, failure);
        }
    }

    /// <summary>The variables of a render, by their names in the template.</summary>
    internal static Dictionary<string, object?> Variables(ChatTemplateInput input, bool isTraced)
    {
        var variables = new Dictionary<string, object?>();
        foreach (var (name, token) in input.SpecialTokens)
        {
            variables[name] = PyString.Of(token);
        }

        foreach (var (name, value) in input.Variables ?? [])
        {
            variables[name] = JsonValues.Convert(value);
        }

        variables["messages"] = isTraced ? JsonValues.Messages(input.Messages) : JsonValues.Convert(input.Messages);
        variables["tools"] = JsonValues.Convert(input.Tools);
        variables["documents"] = JsonValues.Convert(input.Documents);
        variables["add_generation_prompt"] = input.AddGenerationPrompt;
        return variables;
    }

    /// <summary>Runs the template; its output is the state's.</summary>
    internal RenderState Execute(Dictionary<string, object?> variables, DateTime now, bool isTraced)
    {
        var state = new RenderState(variables, now, isTraced);
        try
        {
            root.Execute(state);
            return state;
        }
        catch (TemplateFailure failure)
        {
            throw new ChatTemplateException(Name, failure.Line > 0 ? failure.Line : state.Line, failure.Kind, failure.Message, failure);
        }
    }
}
