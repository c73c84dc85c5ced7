namespace OpenWeights.Tune.Configuration;

/// <summary>The base model of a run.</summary>
public sealed record ModelSection
{
    /// <summary>The model's folder.</summary>
    [Setting("The folder of the base model: config.json, safetensors weights and tokenizer files.", Required = true)]
    public string Path { get; init; } = "";

    /// <summary>The dtype to compute in.</summary>
    [Setting("The dtype that the model is held and computed in; auto takes the checkpoint's.", OneOf = ["auto", "float32", "bfloat16", "float16"])]
    public string Dtype { get; init; } = "auto";

    /// <summary>The device.</summary>
    [Setting("Where to run: auto (a GPU where there is one), cpu, cuda or cuda:N.")]
    public string Device { get; init; } = "auto";
}
