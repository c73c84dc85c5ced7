using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Page.Tests;

/// <summary>What the scripted server answers to one request: a refusal, or the events of a stream.</summary>
internal sealed class Script
{
    private readonly List<(string Text, Task? Gate)> _parts = [];
    private int _words;

    internal int Status { get; private init; } = 200;

    /// <summary>The events, and where a task stands, the server waits for it first.</summary>
    internal IReadOnlyList<(string Text, Task? Gate)> Parts => _parts;

    /// <summary>What ends a line of the stream.</summary>
    internal string LineEnd { get; init; } = "\n";

    /// <summary>An answer of these tokens.</summary>
    internal static Script Of(params string[] tokens) => new Script().Say(tokens).End();

    /// <summary>A refusal in OpenAI's shape.</summary>
    internal static Script Refuse(int status, string message)
    {
        var made = new Script { Status = status };
        made._parts.Add((new JsonObject { ["error"] = new JsonObject { ["message"] = message, ["type"] = "invalid_request_error", ["param"] = null, ["code"] = null } }.ToJsonString(), null));
        return made;
    }

    /// <summary>Tokens of the answer. The first is certain to 90 %, the next to 50 %, the next to 5 %, and so on in turn; "other" is the second most likely.</summary>
    internal Script Say(params string[] tokens)
    {
        foreach (var token in tokens)
        {
            var logprob = Math.Log(new[] { 0.9, 0.5, 0.05 }[_words++ % 3]);
            var content = Chance(token, logprob);
            content["top_logprobs"] = new JsonArray(Chance(token, logprob), Chance("other", Math.Log(0.04)));
            _ = Chunk(new JsonObject { ["content"] = token }, null, new JsonObject { ["content"] = new JsonArray(content) });
        }

        return this;
    }

    internal Script Reason(string text) => Chunk(new JsonObject { ["reasoning_content"] = text });

    /// <summary>A call of a tool whose arguments come in pieces.</summary>
    internal Script Call(int index, string id, string name, params string[] arguments)
    {
        _ = Chunk(new JsonObject
        {
            ["tool_calls"] = new JsonArray(new JsonObject { ["index"] = index, ["id"] = id, ["type"] = "function", ["function"] = new JsonObject { ["name"] = name, ["arguments"] = "" } }),
        });
        foreach (var piece in arguments)
        {
            _ = Chunk(new JsonObject { ["tool_calls"] = new JsonArray(new JsonObject { ["index"] = index, ["function"] = new JsonObject { ["arguments"] = piece } }) });
        }

        return this;
    }

    /// <summary>The rest comes when the task has ended.</summary>
    internal Script WaitFor(Task gate)
    {
        _parts.Add(("", gate));
        return this;
    }

    internal Script Raw(string text)
    {
        _parts.Add((text, null));
        return this;
    }

    internal Script Event(string data) => Raw($"data: {data}{LineEnd}{LineEnd}");

    internal Script End(string reason = "stop")
    {
        _ = Chunk([], reason);
        _ = Event(new JsonObject { ["object"] = "chat.completion.chunk", ["choices"] = new JsonArray(), ["usage"] = new JsonObject { ["prompt_tokens"] = 7, ["completion_tokens"] = _words, ["total_tokens"] = 7 + _words } }.ToJsonString());
        return Event("[DONE]");
    }

    private Script Chunk(JsonObject delta, string? reason = null, JsonObject? logprobs = null) => Event(new JsonObject
    {
        ["id"] = "chatcmpl-1",
        ["object"] = "chat.completion.chunk",
        ["choices"] = new JsonArray(new JsonObject { ["index"] = 0, ["delta"] = delta, ["logprobs"] = logprobs, ["finish_reason"] = reason }),
        ["usage"] = null,
    }.ToJsonString(s_unescaped));

    // Characters beyond ASCII as they are, so that pieces cut them.
    private static readonly JsonSerializerOptions s_unescaped = new() { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    private static JsonObject Chance(string token, double logprob) => new()
    {
        ["token"] = token,
        ["logprob"] = logprob,
        ["bytes"] = new JsonArray([.. System.Text.Encoding.UTF8.GetBytes(token).Select(static b => (JsonNode)b)]),
    };
}
