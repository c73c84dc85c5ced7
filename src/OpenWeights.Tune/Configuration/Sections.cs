namespace OpenWeights.Tune.Configuration;

/// <summary>The model section: the base model of a run.</summary>
public sealed record ModelSection
{
    /// <summary>Folder, GGUF file or Hub name of the model.</summary>
    [Setting("Base model: a folder with config.json, safetensors weights and tokenizer files; a GGUF file; or ORG/NAME on the Hugging Face Hub.", Required = true, IsPath = true)]
    public string Path { get; init; } = "";

    /// <summary>Data type of weights and computation.</summary>
    [Setting("Data type of the weights and of the computation. auto uses the checkpoint's; on a GPU without bfloat16, a bfloat16 checkpoint is loaded as float16, or as float32 for families that overflow in float16.", OneOf = ["auto", "float32", "bfloat16", "float16"])]
    public string Dtype { get; init; } = "auto";

    /// <summary>What becomes of weights that are quantized in the checkpoint.</summary>
    [Setting("Checkpoints that are quantized already (bitsandbytes, GPTQ, AWQ, fp8, MXFP4, compressed-tensors, ModelOpt): keep holds the linear layers as they are and dequantizes a layer at a time as it computes; dequantize loads all weights in the data type.", OneOf = ["keep", "dequantize"])]
    public string Quantized { get; init; } = "keep";

    /// <summary>Whether quantized weights are held as they are.</summary>
    internal bool KeepsQuantized => Quantized != "dequantize";

    /// <summary>Chat template that replaces the model's own; null for the model's own.</summary>
    [Setting("Chat template that replaces the model's own: chatml or another built-in name, the name of one of the model's templates, or a file. It is saved with the result.", IsPath = true)]
    public string? ChatTemplate { get; init; }

    /// <summary>Tokens that are added.</summary>
    [Setting("Tokens that are added to the tokenizer and the model, such as [<tool>, { token: <end>, words: the end of a call }]. With a LoRA adapter their rows are trained (trainable_token_indices), or embedding and head whole by modules_to_save.")]
    public IReadOnlyList<NewTokenSection> NewTokens { get; init; } = [];

    /// <summary>Device.</summary>
    [Setting("Device: auto (a GPU if there is one, otherwise the CPU), cpu, cuda or cuda:N; or several GPUs, such as [cuda:0, cuda:1], over which the layers are spread in order by free memory.")]
    public TextOrList Device { get; init; } = "auto";

    /// <summary>Context length of the model.</summary>
    [Setting("Context length of the model, in tokens; by default max_position_embeddings of its config.json, after RoPE scaling.", Min = 2)]
    public int? MaxPositions { get; init; }

    /// <summary>Coefficient of the load balancing loss of a mixture of experts.</summary>
    [Setting("Mixtures of experts: coefficient of the load balancing loss of the routers, which is added to the loss in training; 0 for none. By default router_aux_loss_coef of config.json if its output_router_logits is true, and otherwise 0.", Min = 0)]
    public double? RouterAuxLoss { get; init; }
}

/// <summary>The quantization section: quantization of the frozen base model, all linear layers except the output head.</summary>
public sealed record QuantizationSection
{
    /// <summary>Quantization type.</summary>
    [Setting("Quantization type: nf4 (QLoRA, about 0.5 bytes per weight) or int8 (1 byte per weight).", OneOf = ["nf4", "int8"])]
    public string Type { get; init; } = "nf4";

    /// <summary>Number of weights per block.</summary>
    [Setting("nf4: block size, the number of weights that share a scale; a power of two.", Min = 32, Max = 4096)]
    public int BlockSize { get; init; } = 64;

    /// <summary>Whether the scales are quantized as well.</summary>
    [Setting("nf4: double quantization, which quantizes the scales as well.")]
    public bool DoubleQuant { get; init; } = true;
}

/// <summary>The checkpoints section.</summary>
public sealed record CheckpointSection
{
    /// <summary>Steps between checkpoints.</summary>
    [Setting("Steps between checkpoints; 0 writes one only when the run is interrupted with Ctrl-C.", Min = 0)]
    public long EverySteps { get; init; } = 50;

    /// <summary>Number of checkpoints to keep.</summary>
    [Setting("Number of checkpoints to keep.", Min = 1)]
    public int Keep { get; init; } = 2;
}
