using System.Text.Json.Nodes;
using OpenWeights.Tokenizers;
using OpenWeights.Tokenizers.Templates;
using OpenWeights.Tune.Answering.ToolCalls;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Answering;

/// <summary>A model that answers: the base, or an adapter on it.</summary>
internal sealed class ServedModel
{
    private readonly Lock _lock = new();
    private readonly TaskCompletionSource _isFree = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly bool _knowsTools;
    private int _uses;
    private bool _isClosed;

    internal ServedModel(string name, string folder, string? parent, string? adapter, Tokenizer tokenizer, IReadOnlyList<int> endTokens)
    {
        (Name, Folder, Parent, Adapter, Tokenizer, EndTokens) = (name, folder, parent, adapter, tokenizer, endTokens);
        Renderer = tokenizer.ChatTemplateText is null ? null : new ChatRenderer(tokenizer, endTokens);
        var template = tokenizer.ChatTemplateFor(withTools: true) ?? tokenizer.ChatTemplateText ?? "";
        _knowsTools = template.Contains("tools", StringComparison.Ordinal);
        CallFormat = ToolCallFormats.Of(template) ?? ToolCallFormats.Named(ToolMessages.Format)!;
        Texts = new TokenTexts(tokenizer);
    }

    /// <summary>The name that requests give it.</summary>
    public string Name { get; }

    /// <summary>The folder or file that it was loaded from.</summary>
    public string Folder { get; }

    /// <summary>Name of the base model of an adapter; null for the base itself.</summary>
    public string? Parent { get; }

    /// <summary>When it was loaded.</summary>
    public DateTimeOffset Created { get; } = DateTimeOffset.UtcNow;

    /// <summary>Tokenizes its texts, with its chat template.</summary>
    public Tokenizer Tokenizer { get; }

    /// <summary>Renders its chats; null without a chat template.</summary>
    public ChatRenderer? Renderer { get; }

    /// <summary>Tokens that end its answers.</summary>
    public IReadOnlyList<int> EndTokens { get; }

    /// <summary>Name of the adapter in the engine; null for the base. It is never used again for another adapter, so that nothing cached is taken for its own.</summary>
    internal string? Adapter { get; }

    internal TokenTexts Texts { get; }

    /// <summary>How its answers write calls of tools.</summary>
    internal IToolCallFormat CallFormat { get; }

    /// <summary>The prompt of a chat.</summary>
    /// <param name="messages">The messages; where the last is the assistant's, the prompt ends with what it has said, for the model to go on.</param>
    /// <param name="tools">Tools that the model may call; null for none.</param>
    /// <param name="values">Values for the template's variables; null for none.</param>
    /// <param name="beginsAnswer">Whether the prompt ends with the beginning of an answer.</param>
    /// <exception cref="AnswerRefusedException">There is no template, or it refuses the messages.</exception>
    public string Render(JsonArray messages, JsonArray? tools, JsonObject? values, bool beginsAnswer = true)
    {
        ArgumentNullException.ThrowIfNull(messages);
        if (Renderer is null)
        {
            throw new AnswerRefusedException(RefusalKind.Invalid, $"the model {Name} has no chat template, which messages need; serve it with --chat-template NAME (chatml and others), or use /v1/completions with a prompt.", "messages");
        }

        var known = _knowsTools ? messages : ToolMessages.Plain(messages, tools);
        var (before, begun) = beginsAnswer ? Begun(known) : (known, "");
        try
        {
            return Renderer.Render(before, _knowsTools && tools is { Count: > 0 } ? tools.DeepClone() : null, beginsAnswer, values) + begun;
        }
        catch (Exception e) when (e is ChatTemplateException or InvalidDataException)
        {
            throw new AnswerRefusedException(RefusalKind.Invalid, e is ChatTemplateException { Kind: ChatTemplateErrorKind.Raised } refused ? $"the chat template refuses the messages: {refused.Reason}" : e.Message, "messages");
        }
    }

    /// <summary>The text of one token, and its bytes in UTF-8; a part of a character is U+FFFD in the text.</summary>
    /// <param name="token">Its id.</param>
    public (string Text, ReadOnlyMemory<byte> Bytes) TextOf(int token) => Texts.Of(token, 0) is var text ? (text.Text, text.Bytes) : default;

    // The messages before an answer that is begun, and its text.
    private static (JsonArray Before, string Begun) Begun(JsonArray messages) =>
        messages.Count > 1 && messages[^1] is JsonObject last && last["role"]?.ToString() == "assistant" && last["tool_calls"] is null && TextOf(last["content"]) is { Length: > 0 } text
            ? ([.. messages.Take(messages.Count - 1).Select(static m => m?.DeepClone())], text)
            : (messages, "");

    private static string? TextOf(JsonNode? content) => content switch
    {
        JsonArray parts => string.Concat(parts.Select(static p => p?["text"]?.ToString())),
        JsonValue value when value.TryGetValue<string>(out var text) => text,
        _ => null,
    };

    /// <summary>Counts a use, which keeps an adapter loaded until it is released.</summary>
    /// <returns>Whether the model is still there.</returns>
    internal bool TryUse()
    {
        lock (_lock)
        {
            _uses += _isClosed ? 0 : 1;
            return !_isClosed;
        }
    }

    internal void Release()
    {
        lock (_lock)
        {
            _uses--;
            FreeIfUnused();
        }
    }

    /// <summary>Lets no one use it any more.</summary>
    /// <returns>Ends when no one does.</returns>
    internal Task CloseAsync()
    {
        lock (_lock)
        {
            _isClosed = true;
            FreeIfUnused();
        }

        return _isFree.Task;
    }

    private void FreeIfUnused()
    {
        if (_isClosed && _uses == 0)
        {
            _ = _isFree.TrySetResult();
        }
    }
}
