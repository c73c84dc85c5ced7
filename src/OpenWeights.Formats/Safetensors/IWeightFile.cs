namespace OpenWeights.Formats.Safetensors;

/// <summary>A file that holds weights.</summary>
public interface IWeightFile : ITensorSource, IDisposable;
