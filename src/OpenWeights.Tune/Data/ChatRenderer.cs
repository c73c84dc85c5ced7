using System.Text.Json.Nodes;
using OpenWeights.Tokenizers;
using OpenWeights.Tokenizers.Templates;

namespace OpenWeights.Tune.Data;

/// <summary>Puts chats through a model's own chat template.</summary>
public sealed class ChatRenderer
{
    private readonly ChatTemplate _template;
    private readonly ChatTemplate _templateWithTools;
    private readonly IReadOnlyDictionary<string, string> _specialTokens;
    private readonly HashSet<string> _warnings = [];

    /// <summary>A renderer of a tokenizer's template.</summary>
    /// <param name="tokenizer">The tokenizer; it has a template.</param>
    /// <exception cref="ChatTemplateException">The template is not well-formed.</exception>
    public ChatRenderer(ITokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        var text = tokenizer.ChatTemplateText ?? throw new ArgumentException("the tokenizer has no chat template", nameof(tokenizer));
        _template = ChatTemplate.Parse(text, "the chat template");
        _templateWithTools = tokenizer.ChatTemplateFor(withTools: true) is { } other && other != text
            ? ChatTemplate.Parse(other, "the chat template tool_use")
            : _template;
        _specialTokens = tokenizer.SpecialTokens;
    }

    /// <summary>What whoever trains on the rendered chats should know of the template.</summary>
    public IReadOnlyCollection<string> Warnings => _warnings;

    /// <summary>The text of a chat.</summary>
    /// <param name="messages">The messages.</param>
    /// <param name="tools">The tools that the assistant may call, or null.</param>
    /// <param name="addGenerationPrompt">Whether the text ends with the beginning of the assistant's next turn.</param>
    /// <exception cref="ChatTemplateException">The template refuses the messages.</exception>
    public string Render(JsonArray messages, JsonNode? tools, bool addGenerationPrompt) => TemplateFor(tools).Render(Input(messages, tools, addGenerationPrompt));

    /// <summary>The text of a chat, and which of its characters the assistant wrote: its turns with their ends, without what begins them.</summary>
    /// <param name="messages">The messages.</param>
    /// <param name="tools">The tools that the assistant may call, or null.</param>
    /// <param name="lastTurnAlone">Whether only the last of the assistant's turns is wanted.</param>
    /// <exception cref="ChatTemplateException">The template refuses the messages, or does not tell what the assistant wrote.</exception>
    public (string Text, IReadOnlyList<Range> Assistant) RenderWithAssistant(JsonArray messages, JsonNode? tools, bool lastTurnAlone)
    {
        var rendered = TemplateFor(tools).RenderWithSpans(Input(messages, tools, addGenerationPrompt: false));
        foreach (var warning in rendered.Warnings)
        {
            _ = _warnings.Add(warning);
        }

        var spans = rendered.AssistantSpans;
        if (lastTurnAlone && spans.Count > 0)
        {
            var last = spans.Max(static s => s.MessageIndex);
            spans = [.. spans.Where(s => s.MessageIndex == last)];
        }

        return (rendered.Text, [.. spans.Select(static s => s.Start..s.End)]);
    }

    private ChatTemplate TemplateFor(JsonNode? tools) => tools is null ? _template : _templateWithTools;

    private ChatTemplateInput Input(JsonArray messages, JsonNode? tools, bool addGenerationPrompt) =>
        new() { Messages = messages, Tools = tools, AddGenerationPrompt = addGenerationPrompt, SpecialTokens = _specialTokens };
}
