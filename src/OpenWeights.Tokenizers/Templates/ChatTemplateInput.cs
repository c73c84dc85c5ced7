using System.Text.Json.Nodes;

namespace OpenWeights.Tokenizers.Templates;

/// <summary>Input of a chat template: the variables that Hugging Face transformers passes to it.</summary>
public sealed class ChatTemplateInput
{
    /// <summary>The conversation: an array of objects with <c>role</c>, <c>content</c> and whatever else the template reads.</summary>
    public required JsonArray Messages { get; init; }

    /// <summary>The tools that the model may call, usually an array of JSON schemas; null is passed as None.</summary>
    public JsonNode? Tools { get; init; }

    /// <summary>Documents for templates that ground their answers; null is passed as None.</summary>
    public JsonNode? Documents { get; init; }

    /// <summary>Whether the text ends with the beginning of the assistant's next turn, ready for generation.</summary>
    public bool AddGenerationPrompt { get; init; }

    /// <summary>
    /// The tokenizer's special tokens by the names of transformers: <c>bos_token</c>, <c>eos_token</c>, <c>pad_token</c>, ... A token
    /// that the tokenizer does not have is left out, and undefined in the template.
    /// </summary>
    public IReadOnlyDictionary<string, string> SpecialTokens { get; init; } = new Dictionary<string, string>();

    /// <summary>
    /// The texts of more tokens at which serving stops, as generation_config.json names them. Where one stands directly after an
    /// assistant turn, it ends the turn, although it may be the beginning of the next one (GLM's <c>&lt;|user|&gt;</c>).
    /// </summary>
    public IReadOnlyList<string> EndTokens { get; init; } = [];

    /// <summary>More variables, such as <c>enable_thinking</c>: transformers' <c>chat_template_kwargs</c>. They go before special tokens.</summary>
    public JsonObject? Variables { get; init; }

    /// <summary>The time that <c>strftime_now</c> returns; null for the current time.</summary>
    public DateTimeOffset? Now { get; init; }

    /// <summary>The clock that is asked for the local time where <see cref="Now"/> is null.</summary>
    public TimeProvider Clock { get; init; } = TimeProvider.System;

    internal DateTime LocalTime => Now?.DateTime ?? Clock.GetLocalNow().DateTime;
}
