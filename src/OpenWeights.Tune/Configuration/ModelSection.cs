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
