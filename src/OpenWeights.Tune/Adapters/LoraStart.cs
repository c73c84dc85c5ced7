namespace OpenWeights.Tune.Adapters;

/// <summary>How a LoRA update starts (PEFT's init_lora_weights).</summary>
public enum LoraStart
{
    /// <summary>true: A uniform within 1 / sqrt(in), B zero, so that it starts as nothing.</summary>
    Kaiming,

    /// <summary>gaussian: A normal with a standard deviation of 1 / rank, B zero.</summary>
    Gaussian,

    /// <summary>pissa: the weight's largest singular values and vectors (Meng et al., 2024), less themselves: nothing again.</summary>
    Pissa,
}
