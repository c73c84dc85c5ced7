namespace OpenWeights.Tune.Configuration;

/// <summary>The base model of a run.</summary>
public sealed record ModelSection
{
    /// <summary>The model's folder, GGUF file, or name on the Hub.</summary>
    [Setting("The base model: a folder with config.json, safetensors weights and tokenizer files; a GGUF file; or ORG/NAME on the Hugging Face Hub.", Required = true, IsPath = true)]
    public string Path { get; init; } = "";

    /// <summary>The dtype to compute in.</summary>
    [Setting("The dtype that the model is held and computed in; auto takes the checkpoint's, and for a bfloat16 one on a GPU that has no bfloat16 float16, or float32 where a family overflows in that.", OneOf = ["auto", "float32", "bfloat16", "float16"])]
    public string Dtype { get; init; } = "auto";

    /// <summary>The chat template in the place of the model's own; null for that.</summary>
    [Setting("The chat template to use in the place of the model's own: chatml or another known name, the name of one that the model has, or a file. It is saved with the result.", IsPath = true)]
    public string? ChatTemplate { get; init; }

    /// <summary>The device.</summary>
    [Setting("Where to run: auto (a GPU where there is one), cpu, cuda or cuda:N.")]
    public string Device { get; init; } = "auto";

    /// <summary>The longest text that the model may be given.</summary>
    [Setting("The longest text, in tokens, that the model may be given; left out, what max_position_embeddings of its config.json allows after rope scaling.", Min = 2)]
    public int? MaxPositions { get; init; }
}

/// <summary>Quantisation of the frozen base: every linear layer but the output head.</summary>
public sealed record QuantizationSection
{
    /// <summary>The kind.</summary>
    [Setting("The kind of quantisation: nf4 (QLoRA, about half a byte a weight) or int8 (a byte).", OneOf = ["nf4", "int8"])]
    public string Type { get; init; } = "nf4";

    /// <summary>Weights that share a scale.</summary>
    [Setting("nf4: how many weights share a scale, a power of two.", Min = 32, Max = 4096)]
    public int BlockSize { get; init; } = 64;

    /// <summary>Whether scales are quantised too.</summary>
    [Setting("nf4: whether the scales are quantised too.")]
    public bool DoubleQuant { get; init; } = true;
}

/// <summary>What a run minimises.</summary>
public sealed record ObjectiveSection
{
    /// <summary>The kind of objective.</summary>
    [Setting("The objective: sft, the cross entropy of the trained tokens.", OneOf = ["sft"])]
    public string Type { get; init; } = "sft";

    /// <summary>Label smoothing.</summary>
    [Setting("The share of each target that is spread over the whole vocabulary.", Min = 0, Max = 0.999)]
    public double LabelSmoothing { get; init; }

    /// <summary>The weight of the z-loss.</summary>
    [Setting("The weight of the squared logarithm of the softmax's denominator, which keeps logits small (1e-4 is usual).", Min = 0)]
    public double ZLoss { get; init; }
}

/// <summary>Checkpoints of a run.</summary>
public sealed record CheckpointSection
{
    /// <summary>Steps between checkpoints.</summary>
    [Setting("Steps between checkpoints; 0 for none but the one that a Ctrl-C leaves.", Min = 0)]
    public long EverySteps { get; init; } = 50;

    /// <summary>How many are kept.</summary>
    [Setting("How many checkpoints are kept.", Min = 1)]
    public int Keep { get; init; } = 2;
}
