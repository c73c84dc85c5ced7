using System.Text.Json.Nodes;

using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Spans;

/// <summary>Renders the beginnings of a conversation, as serving would.</summary>
internal sealed class PromptRenderer
{
    private readonly ChatTemplate template;
    private readonly Dictionary<string, object?> variables;
    private readonly List<object?> messages;
    private readonly DateTime now;
    private readonly Dictionary<bool, string?> texts = [];
    private int textsCount = -1;

    public PromptRenderer(ChatTemplate template, ChatTemplateInput input)
    {
        this.template = template;
        now = input.LocalTime;
        variables = ChatTemplate.Variables(input, isTraced: true);
        messages = ((PyList)variables["messages"]!).Items;
    }

    private PromptRenderer(PromptRenderer other, List<object?> messages)
    {
        template = other.template;
        now = other.now;
        variables = other.variables;
        this.messages = messages;
    }

    public int MessageCount => messages.Count;

    public string? RoleOf(int message) =>
        messages[message] is PyDict dict && dict.TryGet("role", out var role) && role is PyString text ? text.Value : null;

    /// <summary>The text content of a message without white space at its ends; null if its content is no text or blank.</summary>
    public string? ContentOf(int message) =>
        messages[message] is PyDict dict && dict.TryGet("content", out var content) && content is PyString { Value: var text }
        && !string.IsNullOrWhiteSpace(text)
            ? text.Trim()
            : null;

    /// <summary>The texts of a message's content: itself, or those of its parts.</summary>
    public IEnumerable<string> TextsOf(int message)
    {
        if (ContentOf(message) is { } text)
        {
            return [text];
        }

        return messages[message] is PyDict dict && dict.TryGet("content", out var content) && content is PyList parts
            ? parts.Items.OfType<PyDict>()
                .Select(part => part.TryGet("text", out var value) && value is PyString { Value: var words } ? words : string.Empty)
            : [];
    }

    /// <summary>The names of the functions that a message calls.</summary>
    public IEnumerable<string> CalledBy(int message)
    {
        if (messages[message] is not PyDict dict || !dict.TryGet("tool_calls", out var calls) || calls is not PyList list)
        {
            yield break;
        }

        foreach (var call in list.Items.OfType<PyDict>())
        {
            var function = call.TryGet("function", out var inner) && inner is PyDict described ? described : call;
            if (function.TryGet("name", out var name) && name is PyString { Value.Length: > 0 } text)
            {
                yield return text.Value;
            }
        }
    }

    /// <summary>The whole conversation.</summary>
    /// <exception cref="ChatTemplateException">The template refuses it or fails.</exception>
    public RenderState Conversation(bool withPrompt, bool isTraced) => Render(messages, withPrompt, isTraced);

    /// <summary>The first messages; null if the template refuses them or fails.</summary>
    public RenderState? Beginning(int count, bool withPrompt, bool isTraced) => Try(messages[..count], withPrompt, isTraced);

    /// <summary>The text of the first messages; null if the template refuses them or fails. One turn asks for the same ones several times.</summary>
    public string? TextOf(int count, bool withPrompt)
    {
        if (textsCount != count)
        {
            textsCount = count;
            texts.Clear();
        }

        if (!texts.TryGetValue(withPrompt, out var text))
        {
            texts.Add(withPrompt, text = Beginning(count, withPrompt, isTraced: false)?.Output.Build().Value);
        }

        return text;
    }

    /// <summary>The first messages and a plain one after them; null if the template refuses that or fails.</summary>
    public TracedText? Plain(int count, string role) =>
        Try([.. messages[..count], Probe(count, role)], withPrompt: false, isTraced: true) is { } state ? new TracedText(state) : null;

    /// <summary>The conversation with a plain message after it.</summary>
    public PromptRenderer With(string role) => new(this, [.. messages, Probe(messages.Count, role)]);

    // Messages know their place.
    private static object? Probe(int place, string role) => JsonValues.Messages([.. Enumerable.Range(0, place + 1).Select(_ => (JsonNode)new JsonObject
    {
        ["role"] = role,
        ["content"] = "x",
    })]).Items[place];

    private RenderState? Try(List<object?> chosen, bool withPrompt, bool isTraced)
    {
        try
        {
            return Render(chosen, withPrompt, isTraced);
        }
        catch (ChatTemplateException)
        {
            return null;
        }
    }

    private RenderState Render(List<object?> chosen, bool withPrompt, bool isTraced) => template.Execute(
        new Dictionary<string, object?>(variables) { ["messages"] = new PyList(chosen), ["add_generation_prompt"] = withPrompt },
        now,
        isTraced);
}
