using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>The mixtures of experts, one of which is shared behind a gate, of Qwen's hybrids.</summary>
internal static class QwenExperts
{
    /// <summary>Names.</summary>
    internal static IReadOnlyList<(string HuggingFace, string Gguf)> Modules { get; } =
    [
        ("mlp.gate", "ffn_gate_inp"),
        ("mlp.experts.*.gate_proj", "ffn_gate_exps"),
        ("mlp.experts.*.down_proj", "ffn_down_exps"),
        ("mlp.experts.*.up_proj", "ffn_up_exps"),
        ("mlp.shared_expert_gate", "ffn_gate_inp_shexp"),
        ("mlp.shared_expert.gate_proj", "ffn_gate_shexp"),
        ("mlp.shared_expert.down_proj", "ffn_down_shexp"),
        ("mlp.shared_expert.up_proj", "ffn_up_shexp"),
    ];

    /// <summary>The number of experts.</summary>
    internal static int Count(ConfigJson config, FamilyFacts facts) => config.Int("num_experts", config.Int("num_local_experts", facts.Experts!.Count));

    /// <summary>The width of feed-forward blocks without experts, which there are none of.</summary>
    internal static object FeedForwardLength(ConfigJson config) => (uint)config.Int("intermediate_size", 1);

    /// <summary>Writes the keys.</summary>
    internal static void Write(ConfigJson config, GgufMetadata metadata, GgufFamily family)
    {
        if (config.Numbers("mlp_only_layers") is { Count: > 0 } || config.Int("decoder_sparse_step", 1) != 1)
        {
            throw config.Error("mlp_only_layers", "llama.cpp requires a mixture of experts in every layer.");
        }

        var facts = family.Facts.Experts!;
        void Add(string key, int value) => metadata.Add($"{family.Architecture}.{key}", (uint)value);
        Add("expert_count", Count(config, family.Facts));
        Add("expert_used_count", config.Int("num_experts_per_tok", facts.PerToken));
        Add("expert_feed_forward_length", config.Int("moe_intermediate_size", facts.Inner));
        Add("expert_shared_feed_forward_length", config.Int("shared_expert_intermediate_size", facts.Shared));
    }

    /// <summary>The settings for a file's keys.</summary>
    internal static void Read(GgufFile file, JsonObject config, GgufFamily family)
    {
        int Int(string key) => file.Metadata.Int($"{family.Architecture}.{key}") ?? throw file.Metadata.Error($"{family.Architecture}.{key}", "this key is missing.");
        config["num_experts"] = Int("expert_count");
        config["num_experts_per_tok"] = Int("expert_used_count");
        config["moe_intermediate_size"] = file.GetTensor("blk.0.ffn_gate_exps.weight").Shape[1];
        config["shared_expert_intermediate_size"] = file.GetTensor("blk.0.ffn_gate_shexp.weight").Shape[0];
    }
}
