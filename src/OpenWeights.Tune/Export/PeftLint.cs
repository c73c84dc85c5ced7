using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Export;

/// <summary>What the servers that take PEFT folders would refuse or get wrong about one.</summary>
public static class PeftLint
{
    private const int DefaultVllmRank = 16;

    /// <summary>Warnings, one sentence each; none where all is well.</summary>
    /// <param name="config">adapter_config.json.</param>
    public static IReadOnlyList<string> Check(JsonObject config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return [.. Warnings(config)];
    }

    private static IEnumerable<string> Warnings(JsonObject config)
    {
        if (Is(config, "use_dora"))
        {
            yield return "vLLM and llama.cpp take no DoRA (use_dora); export --format merged or gguf for them.";
        }

        if (config["modules_to_save"] is JsonArray { Count: > 0 } modules)
        {
            yield return $"vLLM and llama.cpp take no whole modules (modules_to_save: {string.Join(", ", modules)}); export --format merged or gguf for them.";
        }

        if (config["bias"]?.ToString() is { } bias && bias != "none")
        {
            yield return $"vLLM and llama.cpp take no biases (bias: {bias}); export --format merged or gguf for them.";
        }

        if (Is(config, "lora_bias"))
        {
            yield return "vLLM and llama.cpp take no biases of B (lora_bias); export --format merged or gguf for them.";
        }

        if (config["rank_pattern"] is JsonObject { Count: > 0 } or JsonArray { Count: > 0 } || config["alpha_pattern"] is JsonObject { Count: > 0 })
        {
            yield return "vLLM reads one r and one lora_alpha for all layers (rank_pattern, alpha_pattern); export --format merged for it. llama.cpp takes the adapter as --format gguf-lora.";
        }

        var targets = config["target_modules"] switch
        {
            JsonArray list => [.. list.Select(static t => t!.ToString())],
            { } text => [text.ToString()],
            _ => Array.Empty<string>(),
        };
        if (targets.FirstOrDefault(static t => t.EndsWith("embed_tokens", StringComparison.Ordinal) || t.EndsWith("lm_head", StringComparison.Ordinal)) is { } outer)
        {
            yield return $"llama.cpp takes no LoRA of {outer} on every model, and vLLM only of some; export --format merged or gguf for them.";
        }

        if (config["r"]?.GetValueKind() == System.Text.Json.JsonValueKind.Number && config["r"]!.GetValue<int>() is > DefaultVllmRank and var rank)
        {
            yield return $"vLLM refuses r above {DefaultVllmRank} unless it is started with --max-lora-rank {rank}.";
        }
    }

    private static bool Is(JsonObject config, string key) => config[key]?.GetValueKind() == System.Text.Json.JsonValueKind.True;
}
