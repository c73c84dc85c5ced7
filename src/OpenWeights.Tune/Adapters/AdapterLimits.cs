using System.Text.Json.Nodes;
using OpenWeights.Formats.Safetensors;

namespace OpenWeights.Tune.Adapters;

/// <summary>
/// Adapter features that inference servers reject or compute differently, according to their sources: vLLM's PEFTHelper and llama.cpp's
/// convert_lora_to_gguf.py (which uses one alpha for all modules and takes each rank from the tensor's shape).
/// </summary>
internal static class AdapterLimits
{
    // Default of vLLM's --max-lora-rank.
    private const long VllmRank = 16;

    /// <summary>Warnings about an adapter; empty if all servers accept it unchanged.</summary>
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

        var type = config["peft_type"]?.ToString() ?? "";
        if (type is "PROMPT_TUNING" or "P_TUNING" or "PREFIX_TUNING")
        {
            return [$"{type}: neither vLLM nor llama.cpp supports virtual tokens, and they cannot be merged; it is for this program and PEFT."];
        }

        if (type != "LORA")
        {
            return [$"{type}: vLLM and llama.cpp support LoRA alone; export a merged model."];
        }

        Add(Has("use_dora"), "use_dora: neither vLLM nor llama.cpp supports DoRA; export a merged model.");
        Add(Has("modules_to_save"), "modules_to_save: vLLM does not support fully trained modules, and llama.cpp only norms; export a merged model.");
        Add(Has("bias") || Has("lora_bias"), "bias: neither vLLM nor llama.cpp supports trained biases; export a merged model.");
        Add(Has("use_rslora"), "use_rslora: llama.cpp scales by alpha / r instead of alpha / sqrt(r); vLLM is correct. For llama.cpp export with --format gguf-lora, or a merged model.");
        Add(Has("alpha_pattern"), "alpha_pattern: vLLM and llama.cpp use one alpha for all layers; export a merged model, or for llama.cpp use --format gguf-lora, which folds the others into B.");
        Add(Has("rank_pattern"), "rank_pattern: vLLM scales every layer by the config's single r; llama.cpp is correct. For vLLM export a merged model.");
        Add(config["init_lora_weights"]?.ToString() is { } start && (start.StartsWith("pissa", StringComparison.Ordinal) || start is "olora" or "corda" or "loftq" or "lora_ga"),
            $"init_lora_weights {config["init_lora_weights"]}: the adapter applies to a modified base model, which servers do not have; export with --format peft first, or a merged model.");
        Add(Has("alora_invocation_tokens"), "alora_invocation_tokens: vLLM needs a version that knows activated LoRA; for llama.cpp export with --format gguf-lora, which writes the tokens.");
        Add(Has("layer_replication"), "layer_replication: neither vLLM nor llama.cpp supports replicated layers.");
        Add(Has("use_bdlora"), "use_bdlora: vLLM needs a version that knows block-diagonal LoRA, and llama.cpp supports none; export with --format gguf-lora, which writes whole matrices, or a merged model.");
        Add(Has("kasa_config"), "kasa_config: neither vLLM nor llama.cpp supports KaSA; export a merged model.");
        Add(Holds("trainable_tokens_delta"), "trainable_token_indices: neither vLLM nor llama.cpp supports trained rows of tokens; export a merged model.");
        Add(Holds(".lora_embedding_"), "an adapted embedding: vLLM and llama.cpp support adapted embeddings only for some model families; export a merged model for the others.");
        Add(!Has("modules_to_save") && weights.Tensors.Any(static t => t.Shape.Count == 2 && !t.Name.Contains(".lora_", StringComparison.Ordinal) && !t.Name.Contains(".base_layer.", StringComparison.Ordinal) && !t.Name.Contains("trainable_tokens_delta", StringComparison.Ordinal)), "the file contains complete embeddings, as after a change of the vocabulary size, which llama.cpp does not support. Export a merged model.");
        var rank = weights.Tensors.Where(static t => t.Name.EndsWith(".lora_A.weight", StringComparison.Ordinal)).Select(static t => t.Shape[0]).DefaultIfEmpty(0).Max();
        Add(rank > VllmRank, $"rank {rank}: vLLM needs --max-lora-rank {rank} or more (the default is {VllmRank}).");
        return warnings;
    }
}
