namespace OpenWeights.Tune.Models;

/// <summary>Names of a decoder's modules, as the reference implementation has them; adapters refer to modules by these names.</summary>
internal sealed record DecoderNames
{
    /// <summary>The names used by most families.</summary>
    public static DecoderNames Usual { get; } = new();

    /// <summary>The decoder without its head; it may be dotted, as model.language_model is in multimodal models.</summary>
    public string Stack { get; init; } = "model";

    /// <summary>The token embedding, within the stack.</summary>
    public string Embedding { get; init; } = "embed_tokens";

    /// <summary>The list of layers, within the stack.</summary>
    public string Layers { get; init; } = "layers";

    /// <summary>The final norm, within the stack.</summary>
    public string FinalNorm { get; init; } = "norm";

    /// <summary>The output head.</summary>
    public string Head { get; init; } = "lm_head";

    /// <summary>Full name of the embedding.</summary>
    public string EmbeddingModule => $"{Stack}.{Embedding}";

    /// <summary>Full name of the embedding's weight.</summary>
    public string EmbeddingWeight => $"{EmbeddingModule}.weight";

    /// <summary>Full name of the head's weight.</summary>
    public string HeadWeight => $"{Head}.weight";

    /// <summary>Whether a module is the token embedding or the output head.</summary>
    /// <param name="module">Full name of the module.</param>
    public bool IsEmbeddingOrHead(string module) => module == EmbeddingModule || module == Head;

    /// <summary>Full name of a layer.</summary>
    /// <param name="index">Index of the layer.</param>
    public string Layer(int index) => FormattableString.Invariant($"{Stack}.{Layers}.{index}");
}
