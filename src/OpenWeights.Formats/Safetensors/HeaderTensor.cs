namespace OpenWeights.Formats.Safetensors;

/// <summary>A tensor as the header's JSON has it, its numbers not yet held against each other or the file.</summary>
/// <param name="Name">The name.</param>
/// <param name="DType">The element type.</param>
/// <param name="Shape">The dimensions, none negative.</param>
/// <param name="Start">The first byte, counted from the end of the header.</param>
/// <param name="End">The byte after the last.</param>
internal sealed record HeaderTensor(string Name, DType DType, long[] Shape, long Start, long End);
