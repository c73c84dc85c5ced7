namespace OpenWeights.Formats.Safetensors;

/// <summary>Recognises the files that most often stand where a safetensors file should, so that the refusal can say what to do.</summary>
internal static class ForeignFile
{
    /// <summary>What a file that begins with these bytes is, and what to do; null where they are not known.</summary>
    public static string? Describe(ReadOnlySpan<byte> start) =>
        start.StartsWith("version https://git-lfs"u8)
            ? "it is a Git LFS pointer and not the weights themselves: fetch them with \"git lfs pull\""
        : start.StartsWith("PK\x03\x04"u8) || start.StartsWith((ReadOnlySpan<byte>)[0x80, 0x02])
            ? "it is a PyTorch file (pickle): convert it to safetensors or download the safetensors version"
        : start.StartsWith("GGUF"u8) ? "it is a GGUF file"
        : start.TrimStart(" \t\r\n"u8).StartsWith("<"u8)
            ? "it is a web page and not the weights: download it again (does the site ask to log in or to accept a licence first?)"
        : start.TrimStart(" \t\r\n"u8).StartsWith("{"u8) ? "it is a text and not the weights: download it again"
        : null;
}
