using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Files;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Json;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Families;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Init;

/// <summary>Creates model folders with random weights, for training from scratch and for experiments.</summary>
internal static class NewModel
{
    /// <summary>Writes a complete model folder, or nothing on failure.</summary>
    /// <param name="family">Model family (model_type).</param>
    /// <param name="shape">Sizes of the model.</param>
    /// <param name="seed">Random seed of the weights.</param>
    /// <param name="dtype">Data type of the weights.</param>
    /// <param name="folder">The folder, which must not exist.</param>
    /// <param name="addTokenizer">Writes the tokenizer files into the given folder; null for none.</param>
    /// <returns>Number of parameters.</returns>
    /// <exception cref="InvalidDataException">The family is unknown, or the sizes are inconsistent.</exception>
    /// <exception cref="IOException">The folder exists, or cannot be written.</exception>
    public static long Write(string family, ModelShape shape, long seed, ScalarType dtype, string folder, Action<string>? addTokenizer)
    {
        if (Path.Exists(folder))
        {
            throw new IOException($"{folder} already exists; choose another folder, or remove it.");
        }

        TorchSupplier.Require();
        var json = FamilyRegistry.Find(family, "--family").NewConfig(shape);
        json["torch_dtype"] = dtype.ToString().ToLowerInvariant();
        var config = FamilyRegistry.Read(json, "the new config.json");
        using var source = new RandomWeightSource(seed, config.InitializerRange, float32, CPU);
        using var model = new CausalLanguageModel(config, source);
        AtomicFolder.Write(folder, work =>
        {
            _ = CheckpointWriter.Write(work, [.. model.StoredTensors.SelectMany(t => Stored(FamilyTable.Find(family), t.Name, t.Tensor, dtype))]);
            AtomicFile.WriteText(Path.Combine(work, ModelFolder.ConfigName), PythonJson.Serialize(json, indent: 2, sortKeys: false) + "\n");
            var generation = new JsonObject { ["bos_token_id"] = shape.BosToken, ["eos_token_id"] = shape.EosToken };
            AtomicFile.WriteText(Path.Combine(work, "generation_config.json"), PythonJson.Serialize(generation, indent: 2, sortKeys: false) + "\n");
            addTokenizer?.Invoke(work);
        });
        return model.parameters().Sum(static p => p.numel());
    }

    // Under the names, and in the pieces, that the family's checkpoints usually have.
    private static IEnumerable<TensorToWrite> Stored(FamilyFacts? facts, string name, Tensor parameter, ScalarType dtype) =>
        facts?.Layout is { } layout
            ? layout.PartsOf(name, parameter.shape).Select(part => TensorFiles.ToWrite(part.Name, dtype, part.Shape, () =>
                parameter.detach().view(-1).narrow(0, part.First, part.Shape.Aggregate(1L, static (product, size) => product * size)).view([.. part.Shape])))
            : [TensorFiles.ToWrite(name, parameter, dtype)];
}
