using System.Text.Json.Nodes;
using OpenWeights.Tune.Decoding.Engine;

namespace OpenWeights.Tune.Answering;

/// <summary>Settings of an <see cref="AnswerService"/>.</summary>
internal sealed record AnswerServiceOptions
{
    /// <summary>The name that requests give the base model; null for that of its folder or file.</summary>
    public string? Name { get; init; }

    /// <summary>A chat template that replaces the model's; null for its own.</summary>
    public string? ChatTemplate { get; init; }

    /// <summary>Values for variables of chat templates that a request can override; null for none.</summary>
    public JsonObject? TemplateValues { get; init; }

    /// <summary>Limits of the engine.</summary>
    public TextEngineOptions Engine { get; init; } = new();

    /// <summary>Whether adapters that were trained on a base model with different weights are allowed.</summary>
    public bool AllowsAnyBase { get; init; }

    /// <summary>Receives warnings about adapters; null for none.</summary>
    public Action<string>? Warn { get; init; }
}
