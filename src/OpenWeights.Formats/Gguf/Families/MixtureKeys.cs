using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>llama.cpp's functions of router scores, in its numbers.</summary>
internal enum GatingFunction
{
    Softmax = 1,
    Sigmoid = 2,
}

/// <summary>Writes and reads GGUF's keys of mixtures of experts.</summary>
internal static class MixtureKeys
{
    /// <summary>Names of an expert's matrices, as most families have them, in a module.</summary>
    /// <param name="module">The module, such as mlp.</param>
    internal static IReadOnlyList<(string HuggingFace, string Gguf)> Experts(string module = "mlp") =>
        [($"{module}.experts.*.gate_proj", "ffn_gate_exps"), ($"{module}.experts.*.up_proj", "ffn_up_exps"), ($"{module}.experts.*.down_proj", "ffn_down_exps")];

    /// <summary>Names of an expert's matrices, as Mixtral has them.</summary>
    internal static IReadOnlyList<(string HuggingFace, string Gguf)> MixtralExperts { get; } =
        [("block_sparse_moe.experts.*.w1", "ffn_gate_exps"), ("block_sparse_moe.experts.*.w3", "ffn_up_exps"), ("block_sparse_moe.experts.*.w2", "ffn_down_exps")];

    /// <summary>Names of the matrices of shared experts.</summary>
    /// <param name="module">The module, such as mlp.shared_experts.</param>
    internal static IReadOnlyList<(string HuggingFace, string Gguf)> Shared(string module = "mlp.shared_experts") =>
        [($"{module}.gate_proj", "ffn_gate_shexp"), ($"{module}.up_proj", "ffn_up_shexp"), ($"{module}.down_proj", "ffn_down_shexp")];

    /// <summary>Modules without those of a dense feed-forward, for a family that has others in their place.</summary>
    /// <param name="modules">The modules.</param>
    internal static IEnumerable<(string HuggingFace, string Gguf)> WithoutFeedForward(IEnumerable<(string HuggingFace, string Gguf)> modules) =>
        modules.Where(static m => !m.HuggingFace.StartsWith("mlp.", StringComparison.Ordinal));

    /// <summary>A number of experts, which is num_experts or num_local_experts.</summary>
    /// <param name="config">The model's config.json.</param>
    /// <param name="facts">Facts of the family.</param>
    internal static int Count(ConfigJson config, FamilyFacts facts) => config.Int("num_experts", config.Int("num_local_experts", facts.Experts!.Count));

    /// <summary>Writes the keys that every mixture has.</summary>
    /// <param name="family">The family.</param>
    /// <param name="config">The model's config.json.</param>
    /// <param name="metadata">Destination.</param>
    /// <param name="perToken">The number of experts of a token.</param>
    /// <param name="inner">Width of an expert; null where llama.cpp reads it from the dense blocks'.</param>
    internal static void Write(GgufFamily family, ConfigJson config, GgufMetadata metadata, int perToken, int? inner)
    {
        metadata.Add($"{family.Architecture}.expert_count", (uint)family.Experts(config));
        metadata.Add($"{family.Architecture}.expert_used_count", (uint)perToken);
        if (inner is { } width)
        {
            metadata.Add($"{family.Architecture}.expert_feed_forward_length", (uint)width);
        }
    }

    /// <summary>The number of experts of a token in families where that is num_experts_per_tok.</summary>
    internal static int PerToken(ConfigJson config, FamilyFacts facts) => config.Int("num_experts_per_tok", facts.Experts!.PerToken);

    /// <summary>Width of an expert in families where that is moe_intermediate_size.</summary>
    internal static int Inner(ConfigJson config, FamilyFacts facts) => config.Int("moe_intermediate_size", facts.Experts!.Inner);

    /// <summary>Writes how a router's scores become weights.</summary>
    /// <param name="family">The family.</param>
    /// <param name="metadata">Destination.</param>
    /// <param name="gating">The function of the scores.</param>
    /// <param name="normalizes">Whether the weights of the chosen experts are divided by their sum.</param>
    /// <param name="scale">What they are multiplied by.</param>
    internal static void WriteRouter(GgufFamily family, GgufMetadata metadata, GatingFunction gating, bool normalizes, double scale)
    {
        metadata.Add($"{family.Architecture}.expert_gating_func", (uint)gating);
        metadata.Add($"{family.Architecture}.expert_weights_norm", normalizes);
        metadata.Add($"{family.Architecture}.expert_weights_scale", (float)scale);
    }

    /// <summary>Whether a flag is set, with a default.</summary>
    internal static bool Flag(ConfigJson config, string key, bool usual) => config.Has(key) ? config.Flag(key) : usual;

    /// <summary>The router of DeepSeek-V3 and of the families that took it over.</summary>
    internal static void WriteSigmoidRouter(GgufFamily family, ConfigJson config, GgufMetadata metadata)
    {
        var facts = family.Facts.Experts!;
        WriteRouter(family, metadata, GatingFunction.Sigmoid, Flag(config, "norm_topk_prob", facts.Normalizes), config.Number("routed_scaling_factor", facts.Scale));
        WriteGroups(family, config, metadata);
    }

    /// <summary>Groups of experts, of which the sum of the two best scores is a group's.</summary>
    internal static void WriteGroups(GgufFamily family, ConfigJson config, GgufMetadata metadata)
    {
        var (groups, chosen) = Groups(family, config);
        if (groups > 1 && chosen < groups)
        {
            metadata.Add($"{family.Architecture}.expert_group_count", (uint)groups);
            metadata.Add($"{family.Architecture}.expert_group_used_count", (uint)chosen);
        }
    }

    /// <summary>The number of groups, and of those chosen.</summary>
    internal static (int Groups, int Chosen) Groups(GgufFamily family, ConfigJson config) =>
        (config.Int("n_group", family.Facts.Experts!.Groups), config.Int("topk_group", family.Facts.Experts.ChosenGroups));

    /// <summary>Writes the number of shared experts.</summary>
    /// <param name="family">The family.</param>
    /// <param name="config">The model's config.json.</param>
    /// <param name="metadata">Destination.</param>
    /// <param name="setting">The setting.</param>
    /// <param name="isRequired">Whether llama.cpp needs them.</param>
    internal static void WriteShared(GgufFamily family, ConfigJson config, GgufMetadata metadata, string setting = "n_shared_experts", bool isRequired = true)
    {
        var count = (int)config.Number(setting, family.Facts.Experts!.SharedCount ?? 0);
        if (count < 1 && isRequired)
        {
            throw config.Error(setting, "llama.cpp requires shared experts for this family.");
        }

        metadata.Add($"{family.Architecture}.expert_shared_count", (uint)count);
    }

    /// <summary>Writes the number of layers before the first mixture; all others must have one.</summary>
    /// <param name="family">The family.</param>
    /// <param name="config">The model's config.json.</param>
    /// <param name="metadata">Destination.</param>
    /// <param name="dense">Their number if mlp_layer_types does not say it.</param>
    internal static void WriteDense(GgufFamily family, ConfigJson config, GgufMetadata metadata, int dense)
    {
        if (config.Texts("mlp_layer_types") is { } types)
        {
            dense = types.TakeWhile(static t => t == "dense").Count();
            if (types.Skip(dense).Any(static t => t == "dense"))
            {
                throw config.Error("mlp_layer_types", "llama.cpp supports layers without a mixture only before the first that has one.");
            }
        }

        metadata.Add($"{family.Architecture}.leading_dense_block_count", (uint)dense);
    }

    /// <summary>Whether each layer of a file has a mixture.</summary>
    internal static bool[] SparseLayers(GgufFamily family, GgufFile file) =>
        [.. Enumerable.Range(0, file.Metadata.Int($"{family.Architecture}.block_count") ?? 0).Select(i => file.Contains($"blk.{i}.ffn_gate_inp.weight"))];

    /// <summary>mlp_layer_types of a file.</summary>
    internal static JsonArray LayerTypes(GgufFamily family, GgufFile file) => [.. SparseLayers(family, file).Select(static sparse => (JsonNode)(sparse ? "sparse" : "dense"))];

    /// <summary>A key of a file that is a whole number.</summary>
    /// <exception cref="InvalidDataException">It is missing.</exception>
    internal static int Int(GgufFamily family, GgufFile file, string key) =>
        file.Metadata.Int($"{family.Architecture}.{key}") ?? throw file.Metadata.Error($"{family.Architecture}.{key}", "this key is missing.");

    /// <summary>Width of an expert in a file.</summary>
    internal static int Inner(GgufFamily family, GgufFile file) =>
        file.Metadata.Int($"{family.Architecture}.expert_feed_forward_length") ?? Int(family, file, "feed_forward_length");

    /// <summary>Reads the router of DeepSeek-V3, and its experts, into the settings that DeepSeek gives them.</summary>
    internal static void ReadSigmoidMixture(GgufFamily family, GgufFile file, JsonObject config)
    {
        var metadata = file.Metadata;
        config["n_routed_experts"] = Int(family, file, "expert_count");
        config["num_experts_per_tok"] = Int(family, file, "expert_used_count");
        config["moe_intermediate_size"] = Inner(family, file);
        config["n_shared_experts"] = metadata.Int($"{family.Architecture}.expert_shared_count") ?? 0;
        config["norm_topk_prob"] = metadata.Flag($"{family.Architecture}.expert_weights_norm") ?? false;
        config["routed_scaling_factor"] = Scale(family, file);
        config["n_group"] = metadata.Int($"{family.Architecture}.expert_group_count") is { } groups and > 0 ? groups : 1;
        config["topk_group"] = metadata.Int($"{family.Architecture}.expert_group_used_count") is { } chosen and > 0 ? chosen : 1;
    }

    /// <summary>What a file multiplies the weights of the chosen experts by.</summary>
    internal static double Scale(GgufFamily family, GgufFile file) =>
        file.Metadata.Number($"{family.Architecture}.expert_weights_scale") is { } scale and not 0 ? GgufFamily.Round(scale) : 1;

    /// <summary>Throws if a setting differs from the only value that llama.cpp computes for a family.</summary>
    /// <param name="config">The model's config.json.</param>
    /// <param name="key">The setting.</param>
    /// <param name="isUsual">Whether it has that value.</param>
    /// <param name="only">The value, in words.</param>
    internal static void Require(ConfigJson config, string key, bool isUsual, string only)
    {
        if (!isUsual)
        {
            throw config.Error(key, $"llama.cpp computes only {only} for this family, so the result would differ from the model.");
        }
    }
}
