using System.Text.Json.Nodes;
using OpenWeights.Formats.Safetensors;

namespace OpenWeights.Tune.Adapters;

/// <summary>
/// What servers of adapters do not take, or compute otherwise, by their own sources: vLLM's PEFTHelper and llama.cpp's convert_lora_to_gguf.py
/// (which knows one alpha and takes each rank from its tensor).
/// </summary>
public static class AdapterLimits
{
    // vLLM's --max-lora-rank where none is given.
    private const long VllmRank = 16;

    /// <summary>Warnings about an adapter; empty where every server takes it as it is.</summary>
    /// <param name="config">Its adapter_config.json.</param>
    /// <param name="weights">Its tensors.</param>
    public static IReadOnlyList<string> Of(JsonObject config, ITensorSource weights)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(weights);
        bool Has(string key) => config[key] is { } value && value.ToJsonString() is not ("false" or "null" or "[]" or "{}" or "\"none\"" or "\"\"");
        bool Holds(string part) => weights.Tensors.Any(t => t.Name.Contains(part, StringComparison.Ordinal));
        var warnings = new List<string>();
        void Add(bool applies, string warning)
        {
            if (applies)
            {
                warnings.Add(warning);
            }
        }

        Add(Has("use_dora"), "use_dora: neither vLLM nor llama.cpp takes DoRA; export it merged.");
        Add(Has("modules_to_save"), "modules_to_save: vLLM takes no whole modules, and llama.cpp none but norms; export it merged.");
        Add(Has("bias") || Has("lora_bias"), "bias: neither vLLM nor llama.cpp takes trained biases; export it merged.");
        Add(Has("use_rslora"), "use_rslora: llama.cpp counts alpha / r in place of alpha / sqrt(r); vLLM is right. For llama.cpp export it with --format gguf-lora, or merged.");
        Add(Has("alpha_pattern"), "alpha_pattern: vLLM and llama.cpp know one alpha for all layers; export it merged, or for llama.cpp with --format gguf-lora, which folds the others into B.");
        Add(Has("rank_pattern"), "rank_pattern: vLLM scales every layer by the one r of the config; llama.cpp is right. For vLLM export it merged.");
        Add(config["init_lora_weights"]?.ToString() is { } start && (start.StartsWith("pissa", StringComparison.Ordinal) || start is "olora" or "corda" or "loftq" or "lora_ga"),
            $"init_lora_weights {config["init_lora_weights"]}: it stands on a changed base, which no server makes; export it with --format peft first, or merged.");
        Add(Holds(".lora_embedding_"), "embed_tokens: vLLM and llama.cpp take updates of embeddings only for some families; export it merged where they do not.");
        Add(!Has("modules_to_save") && (Holds("embed_tokens.weight") || Holds("model.lm_head.weight")), "the file holds embeddings whole, as after a change of the vocabulary; llama.cpp does not take them. Export it merged.");
        var rank = weights.Tensors.Where(static t => t.Name.EndsWith(".lora_A.weight", StringComparison.Ordinal)).Select(static t => t.Shape[0]).DefaultIfEmpty(0).Max();
        Add(rank > VllmRank, $"rank {rank}: vLLM wants --max-lora-rank {rank} or more (it has {VllmRank} where none is given).");
        return warnings;
    }
}
