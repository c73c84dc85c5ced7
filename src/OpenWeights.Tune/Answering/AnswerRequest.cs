using System.Text.Json.Nodes;
using OpenWeights.Tune.Decoding;

namespace OpenWeights.Tune.Answering;

/// <summary>What is to be answered or continued, in the terms of no protocol: exactly one of <see cref="Messages"/>, <see cref="Text"/> and <see cref="Tokens"/>.</summary>
internal sealed record AnswerRequest
{
    /// <summary>Name of the model that answers: the base or an adapter; null for the base.</summary>
    public string? Model { get; init; }

    /// <summary>A conversation for the model's chat template; one that ends with an assistant's message is continued from there.</summary>
    public JsonArray? Messages { get; init; }

    /// <summary>A text to continue, without the chat template.</summary>
    public string? Text { get; init; }

    /// <summary>Tokens to continue.</summary>
    public IReadOnlyList<int>? Tokens { get; init; }

    /// <summary>Tools that the model may call, as the chat template takes them; null for none.</summary>
    public JsonArray? Tools { get; init; }

    /// <summary>Which tools are called.</summary>
    public ToolChoice ToolChoice { get; init; } = ToolChoice.Auto;

    /// <summary>Whether an answer may call several tools; where <see cref="ToolChoice"/> names a function, it is called once.</summary>
    public bool ParallelToolCalls { get; init; } = true;

    /// <summary>Values for variables of the chat template, such as <c>enable_thinking</c>; null for none.</summary>
    public JsonObject? TemplateValues { get; init; }

    /// <summary>What the answer must look like.</summary>
    public AnswerFormat Format { get; init; } = AnswerFormat.Free;

    /// <summary>Settings of the generation. End tokens, and the largest number of positions, are the model's own; see <see cref="IgnoresEnd"/> and <see cref="MaxNewTokens"/>.</summary>
    public GenerationOptions Options { get; init; } = new();

    /// <summary>Maximum number of tokens of the answer; null for as many as the context has room for, 0 to read the prompt alone.</summary>
    public int? MaxNewTokens { get; init; }

    /// <summary>Texts that end the answer and are no part of it.</summary>
    public IReadOnlyList<string> Stops { get; init; } = [];

    /// <summary>Whether the model's end tokens never come, so that the answer has as many tokens as it may; not where a format or a call is enforced, which have an end.</summary>
    public bool IgnoresEnd { get; init; }

    /// <summary>Whether deltas have their tokens even where no log-probabilities are asked for.</summary>
    public bool TellsTokens { get; init; }

    /// <summary>Whether it is told how much of the prompt is read.</summary>
    public bool TellsProgress { get; init; }

    /// <summary>Whether each piece tells how many tokens there are by then, and how long they took.</summary>
    public bool TellsTimings { get; init; }

    /// <summary>Whether reasoning and calls are separated from the answer; false for the text as the model writes it.</summary>
    public bool IsParsed { get; init; } = true;

    /// <summary>Whether an answer ends with its first call.</summary>
    internal bool CallsOnce => !ParallelToolCalls || ToolChoice.Name is not null;
}

/// <summary>Which tools an answer calls.</summary>
/// <param name="Kind">Whether it calls any.</param>
/// <param name="Name">The function that is called, where one is named; else null.</param>
internal sealed record ToolChoice(ToolChoiceKind Kind, string? Name = null)
{
    /// <summary>The model decides.</summary>
    public static ToolChoice Auto { get; } = new(ToolChoiceKind.Auto);

    /// <summary>No tool is called.</summary>
    public static ToolChoice None { get; } = new(ToolChoiceKind.None);

    /// <summary>At least one tool is called.</summary>
    public static ToolChoice Required { get; } = new(ToolChoiceKind.Required);

    /// <summary>A named function is called.</summary>
    /// <param name="name">Its name.</param>
    public static ToolChoice Function(string name) => new(ToolChoiceKind.Required, name);
}

/// <summary>Whether an answer calls tools.</summary>
internal enum ToolChoiceKind
{
    /// <summary>The model decides.</summary>
    Auto,

    /// <summary>No tool is called.</summary>
    None,

    /// <summary>At least one is called.</summary>
    Required,
}

/// <summary>What an answer must look like; it is enforced while sampling.</summary>
/// <param name="Kind">The kind.</param>
internal sealed record AnswerFormat(AnswerFormatKind Kind)
{
    /// <summary>Any text.</summary>
    public static AnswerFormat Free { get; } = new(AnswerFormatKind.Free);

    /// <summary>Any JSON object.</summary>
    public static AnswerFormat JsonObject { get; } = new(AnswerFormatKind.JsonObject);

    /// <summary>The JSON schema of <see cref="AnswerFormatKind.JsonSchema"/>; else null.</summary>
    public JsonNode? Schema { get; init; }

    /// <summary>The grammar of <see cref="AnswerFormatKind.Grammar"/>, in llama.cpp's GBNF; else null.</summary>
    public string? Grammar { get; init; }

    /// <summary>JSON that a schema describes.</summary>
    /// <param name="schema">The schema.</param>
    public static AnswerFormat JsonSchema(JsonNode schema) => new(AnswerFormatKind.JsonSchema) { Schema = schema };

    /// <summary>Text of a grammar.</summary>
    /// <param name="grammar">The grammar, in llama.cpp's GBNF.</param>
    public static AnswerFormat Gbnf(string grammar) => new(AnswerFormatKind.Grammar) { Grammar = grammar };
}

/// <summary>Kinds of answers.</summary>
internal enum AnswerFormatKind
{
    /// <summary>Any text.</summary>
    Free,

    /// <summary>Any JSON object.</summary>
    JsonObject,

    /// <summary>JSON that a schema describes.</summary>
    JsonSchema,

    /// <summary>Text of a grammar.</summary>
    Grammar,
}
