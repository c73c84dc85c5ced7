namespace OpenWeights.Formats.Safetensors;

/// <summary>What the usual checkpoints of a family call the experts of its mixtures, one tensor for each matrix of each expert.</summary>
/// <param name="Module">What they call the mixture.</param>
/// <param name="Gate">The matrix whose output goes through the activation.</param>
/// <param name="Up">The matrix that it is multiplied with.</param>
/// <param name="Down">The matrix back to the residual stream.</param>
internal sealed record ExpertNames(string Module, string Gate, string Up, string Down)
{
    private static readonly ExpertNames s_usual = new("mlp", "gate_proj", "up_proj", "down_proj");

    private static readonly Dictionary<string, ExpertNames> s_families = new(StringComparer.Ordinal)
    {
        ["mixtral"] = new("block_sparse_moe", "w1", "w3", "w2"),
        ["qwen2_moe"] = s_usual,
        ["qwen3_moe"] = s_usual,
    };

    /// <summary>Those of a model_type; null where experts are not looked for.</summary>
    internal static ExpertNames? Of(string? modelType) => modelType is null ? null : s_families.GetValueOrDefault(modelType);
}
