using System.Globalization;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Quantization;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Memory;

/// <summary>The data type for results that should be exact: float64 on a CPU, as far as memory allows it.</summary>
internal static class ExactDType
{
    // The fraction of the memory that the weights may take; the rest is for states and logits.
    private const double Share = 0.8;

    /// <summary>Chooses the data type for a model.</summary>
    /// <param name="path">The model's folder.</param>
    /// <param name="device">Device of the computation.</param>
    /// <param name="quantization">Quantization of its linear layers; null for none.</param>
    /// <param name="available">Available memory; null if unknown.</param>
    /// <returns>float64, or null for the checkpoint's data type: on a GPU, which has few units for float64, or, with a warning, where the weights do not fit.</returns>
    /// <exception cref="InvalidDataException">The config is invalid.</exception>
    /// <exception cref="IOException">The folder or a file is missing or cannot be read.</exception>
    public static (ScalarType? DType, string? Warning) Of(string path, Device device, QuantizationSettings? quantization, AvailableMemory? available)
    {
        ArgumentNullException.ThrowIfNull(device);
        if (device.type != DeviceType.CPU)
        {
            return (null, null);
        }

        var folder = ModelFolder.Open(path);
        using var shapes = ModelLoader.Shapes(folder, ModelLoader.ReadConfig(folder), ScalarType.Float64, device, quantization);
        var needed = shapes.Model.ParameterBytes;
        return available is null || needed <= Share * available.Bytes
            ? (ScalarType.Float64, null)
            : (null, string.Create(
                CultureInfo.InvariantCulture,
                $"{path}: in float64 the weights would take {needed / (double)(1 << 30):0.0} GiB, and {available.Where} has {available.Bytes / (double)(1 << 30):0.0} GiB; computing in {Name(ModelLoader.AutomaticDType(folder, device))} instead, whose results are rounded."));
    }

    private static string Name(ScalarType dtype) => dtype.ToString().ToLowerInvariant();
}
