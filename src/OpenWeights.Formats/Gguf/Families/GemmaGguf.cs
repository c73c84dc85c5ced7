namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Gemma 1.</summary>
public class GemmaGguf : GgufFamily
{
    /// <inheritdoc/>
    public override string ModelType => "gemma";

    /// <inheritdoc/>
    public override string ClassName => "GemmaForCausalLM";

    /// <inheritdoc/>
    public override string Architecture => "gemma";

    /// <inheritdoc/>
    public override float NormOffset => 1;

    /// <inheritdoc/>
    public override GgufDefaults Defaults { get; } = new() { KeyValueHeads = 16, HeadLength = 256, MaxPositions = 8192, TiedEmbeddings = true };

    /// <inheritdoc/>
    public override bool HasHead => false;

    /// <inheritdoc/>
    public override string Activation => "gelu_pytorch_tanh";
}
