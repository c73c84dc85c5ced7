namespace OpenWeights.Tune.Adapters;

/// <summary>Which biases of the base an adapter trains along (PEFT's bias).</summary>
public enum BiasTraining
{
    /// <summary>none.</summary>
    None,

    /// <summary>all: every bias of the model.</summary>
    All,

    /// <summary>lora_only: those of the adapted layers.</summary>
    LoraOnly,
}
