using System.Buffers.Binary;
using System.Globalization;
using System.Text.Json;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>
/// A fingerprint of the base model that an adapter was trained on: sampled values of several matrices. They are read from the base model's
/// files if possible, so that the fingerprint does not depend on dtype, file layout or quantization. It is stored in the metadata of
/// adapter_model.safetensors, which other programs ignore.
/// </summary>
internal sealed class BaseFingerprint
{
    /// <summary>Key in the file's metadata.</summary>
    internal const string Key = "base_fingerprint";

    // Tolerance: two roundings to bfloat16's eight bits, and float16's smallest step.
    private const double Rounding = 1.0 / 256;
    private const double SmallestStep = 6e-8;

    // Tolerance for a quantized base model: NF4 differs by about 0.1.
    private const double QuantizedDistance = 0.4;
    private const int Matrices = 8;
    private const int Values = 64;
    private readonly IReadOnlyList<Sample> _samples;

    private BaseFingerprint(IReadOnlyList<Sample> samples) => _samples = samples;

    /// <summary>The fingerprint of a model; null if no values are available.</summary>
    internal static BaseFingerprint? Of(CausalLanguageModel model)
    {
        var matrices = model.OwnModules.Where(m => m.Module is LinearLayer or TokenEmbedding && m.Name != model.Config.OutputModule).ToList();
        var count = Math.Min(Matrices, matrices.Count);
        using var files = Files(model);
        var samples = Enumerable.Range(0, count).Select(i => matrices[count == 1 ? 0 : i * (matrices.Count - 1) / (count - 1)])
            .Select(m => Take(model, files, m.Name, m.Module, Shape(m.Module))).OfType<Sample>().ToList();
        return samples.Count == 0 ? null : new BaseFingerprint(samples);
    }

    /// <summary>Parses a fingerprint; null if the text is not one.</summary>
    internal static BaseFingerprint? Parse(string text)
    {
        try
        {
            return new BaseFingerprint(JsonSerializer.Deserialize<List<Sample>>(text) is { Count: > 0 } samples && samples.TrueForAll(static s => s.Values is { Length: Values } && s.Shape is [> 0, > 0]) ? samples : throw new JsonException());
        }
        catch (JsonException)
        {
            return null;
        }
    }

    /// <summary>The fingerprint as stored in the file.</summary>
    public override string ToString() => JsonSerializer.Serialize(_samples);

    /// <summary>Describes how a model differs from the one fingerprinted; null if it matches.</summary>
    /// <param name="model">The model.</param>
    internal string? Difference(CausalLanguageModel model)
    {
        var modules = model.OwnModules.ToDictionary(static m => m.Name, static m => m.Module);
        using var files = Files(model);
        foreach (var wanted in _samples)
        {
            if (!modules.TryGetValue(wanted.Module, out var module) || Shape(module) is not [var rows, var columns] || columns != wanted.Shape[1])
            {
                return $"this model has no matrix {wanted.Module} of that size";
            }

            // The vocabulary may have been extended.
            if (Take(model, files, wanted.Module, module, wanted.Shape[0] > rows ? [rows, columns] : wanted.Shape) is { } found && !Agree(wanted, found))
            {
                return string.Create(CultureInfo.InvariantCulture, $"the values of {wanted.Module} differ (relative difference {Distance(wanted, found):0.###})");
            }
        }

        return null;
    }

    private static bool Agree(Sample wanted, Sample found)
    {
        if (wanted.IsQuantized || found.IsQuantized)
        {
            return Distance(wanted, found) <= QuantizedDistance;
        }

        return wanted.Values.Zip(found.Values).All(static v => Math.Abs((double)v.First - v.Second) <= (Rounding * Math.Max(Math.Abs((double)v.First), Math.Abs((double)v.Second))) + SmallestStep);
    }

    private static double Distance(Sample wanted, Sample found)
    {
        var (difference, norm) = (wanted.Values.Zip(found.Values).Sum(static v => Math.Pow((double)v.First - v.Second, 2)), wanted.Values.Sum(static v => Math.Pow(v, 2)));
        return difference == 0 ? 0 : Math.Sqrt(difference / Math.Max(norm, double.Epsilon));
    }

    private static long[] Shape(nn.Module module) => module switch
    {
        LinearLayer layer => [layer.OutFeatures, layer.InFeatures],
        TokenEmbedding { Quantized: { } packed } => [packed.OutFeatures, packed.InFeatures],
        TokenEmbedding embedding => [embedding.Slots[0].Own!.size(0), embedding.Slots[0].Own!.size(1)],
        _ => [],
    };

    private static CheckpointWeights? Files(CausalLanguageModel model)
    {
        try
        {
            return model.SourceFolder is { } folder ? ModelFolder.Open(folder).OpenWeights() : null;
        }
        catch (Exception e) when (e is IOException or InvalidDataException or UnauthorizedAccessException)
        {
            // The files have been moved since the model was loaded: use the values in memory.
            return null;
        }
    }

    private static Sample? Take(CausalLanguageModel model, CheckpointWeights? files, string name, nn.Module module, long[] shape)
    {
        var places = Places(shape);
        if (files is not null && files.TryGetTensor($"{name}.weight", out var entry) && entry.DType is DType.F32 or DType.BF16 or DType.F16 && entry.Shape is [_, _])
        {
            return new Sample(name, shape, [.. places.Select(p => Read(files, entry, (p.Row * entry.Shape[1]) + p.Column))], entry.IsQuantized || files.HoldsQuantizedValues);
        }

        if (!model.IsMeta)
        {
            model.Stack.LayerWeights?.Show(name);
        }

        return model.IsMeta ? null : Held(name, module, shape, places);
    }

    // The module's own weights, without those that adapters substitute.
    private static Sample Held(string name, nn.Module module, long[] shape, IReadOnlyList<(long Row, long Column)> places)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        if (((IWeighted)module).Slots[0].Own is { } own)
        {
            var flat = own.detach().view(-1);
            var picked = flat.index_select(0, tensor([.. places.Select(p => (p.Row * own.size(1)) + p.Column)], [places.Count], device: own.device)).to(float32).cpu();
            return new Sample(name, shape, ToArray(picked), false);
        }

        var quantized = module is TokenEmbedding embedding ? embedding.Quantized! : ((LinearLayer)module).Quantized!;
        return new Sample(name, shape, [.. places.Select(p => ToArray(quantized.Rows(p.Row, 1, float32).cpu().view(-1))[p.Column])], true);
    }

    private static float[] ToArray(Tensor values) => System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(values.contiguous().bytes).ToArray();

    private static List<(long Row, long Column)> Places(long[] shape) =>
        [.. Enumerable.Range(0, Values).Select(i => (long)((ulong)(i + 1) * 2654435761UL % (ulong)(shape[0] * shape[1]))).Select(at => (at / shape[1], at % shape[1]))];

    private static float Read(CheckpointWeights files, TensorEntry entry, long at)
    {
        Span<byte> bytes = stackalloc byte[sizeof(float)];
        var size = entry.DType == DType.F32 ? 4 : 2;
        files.CopyTo(entry.Name, at * size, bytes[..size]);
        return entry.DType switch
        {
            DType.F32 => BinaryPrimitives.ReadSingleLittleEndian(bytes),
            DType.F16 => (float)BinaryPrimitives.ReadHalfLittleEndian(bytes),
            _ => BitConverter.Int32BitsToSingle(BinaryPrimitives.ReadUInt16LittleEndian(bytes) << 16),
        };
    }

    private sealed record Sample(string Module, long[] Shape, float[] Values, bool IsQuantized);
}
