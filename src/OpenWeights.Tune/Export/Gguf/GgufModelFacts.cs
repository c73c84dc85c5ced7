namespace OpenWeights.Tune.Export.Gguf;

/// <summary>What of a model counts for the types of its tensors.</summary>
/// <param name="Layers">The number of layers.</param>
/// <param name="Tied">Whether the embedding is the output head too.</param>
/// <param name="Experts">The number of experts of a layer; 0 for none.</param>
/// <param name="IsOf70Billion">Whether llama.cpp takes it for a model of 70 billion parameters.</param>
public sealed record GgufModelFacts(int Layers, bool Tied, int Experts = 0, bool IsOf70Billion = false);
