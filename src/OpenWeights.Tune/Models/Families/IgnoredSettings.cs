using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Settings of a config.json that no family reads because they do not change what a model computes.</summary>
internal static class IgnoredSettings
{
    private static readonly HashSet<string> s_names =
    [
        // Description and origin of the model.
        "architectures", "model_type", "auto_map", "custom_pipelines", "transformers_version", "torch_dtype", "dtype", "name_or_path",
        "is_llama_config", "transformers.js_config", "finetuning_task", "task_specific_params", "problem_type", "tokenizer_class", "prefix", "language",
        "id2label", "label2id", "num_labels", "is_causal", "unsloth_fixed", "unsloth_version", "base_model", "license", "model_name",

        // How it was trained, or how to load, cache and parallelize it.
        "initializer_range", "use_cache", "cache_implementation", "pretraining_tp", "base_model_tp_plan", "gradient_checkpointing", "low_cpu_mem_usage",
        "attn_implementation", "use_flash_attn", "use_flash_attention", "use_bfloat16", "tf_legacy_loss",
        "router_aux_loss_coef", "classifier_dropout", "hidden_dropout", "hidden_dropout_prob", "summary_first_dropout",

        // Redundant copies of other settings.
        "sliding_window_size",

        // Requested outputs.
        "return_dict", "return_dict_in_generate", "output_scores", "output_past", "output_attentions", "output_hidden_states", "torchscript", "output_router_logits",

        // Generation settings of generation_config.json, stored here by older versions.
        "max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p",
        "typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences",
        "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values",
        "chunk_size_feed_forward", "max_new_tokens", "epsilon_cutoff", "eta_cutoff", "max_sequence_length", "model_max_length", "seq_length", "tokenizer_model_max_length",
    ];

    // A factor of one has no effect.
    private static readonly string[] s_factors = ["_multiplier", "_scaling", "_scale", "_factor", "full_attn_mod"];

    private static readonly string[] s_endings = ["_token", "_token_id", "_token_ids"];

    /// <summary>Whether a setting may be ignored.</summary>
    internal static bool Contains(string name, JsonNode? value) =>
        s_names.Contains(name) || name.StartsWith('_') || s_endings.Any(e => name.EndsWith(e, StringComparison.Ordinal))
        || IsNeutral(value) || (IsOne(value) && s_factors.Any(f => name.EndsWith(f, StringComparison.Ordinal)))
        || (name == "layer_types" && value is JsonArray types && types.All(static t => t?.ToString() == "full_attention"));

    private static bool IsNeutral(JsonNode? value) => value switch
    {
        null => true,
        JsonArray list => list.Count == 0,
        JsonObject map => map.Count == 0,
        _ => value.GetValueKind() == JsonValueKind.False || value.ToJsonString() is "0" or "0.0" or "\"\"",
    };

    private static bool IsOne(JsonNode? value) => value?.ToJsonString() is "1" or "1.0";
}
