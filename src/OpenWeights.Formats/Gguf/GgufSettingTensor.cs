namespace OpenWeights.Formats.Gguf;

/// <summary>A checkpoint's tensor whose values are among a file's settings.</summary>
/// <param name="Name">Its name in the checkpoint.</param>
/// <param name="Shape">Its shape.</param>
/// <param name="Values">Its values.</param>
internal sealed record GgufSettingTensor(string Name, IReadOnlyList<long> Shape, float[] Values);
