using System.Text.Json.Nodes;
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

/// <summary>Makes model folders with random weights, for training from scratch and for trying things out.</summary>
public static class NewModel
{
    /// <summary>Writes a model folder whole, or not at all.</summary>
    /// <param name="family">The family's model_type.</param>
    /// <param name="shape">The sizes.</param>
    /// <param name="seed">The seed of the weights.</param>
    /// <param name="dtype">The dtype that weights are written in.</param>
    /// <param name="folder">The folder, which must not exist.</param>
    /// <param name="addTokenizer">Writes tokenizer files into the folder it is given; null for none.</param>
    /// <returns>The number of parameters.</returns>
    /// <exception cref="InvalidDataException">The family is not known, or the sizes do not go together.</exception>
    /// <exception cref="IOException">The folder exists, or cannot be written.</exception>
    public static long Write(string family, ModelShape shape, long seed, ScalarType dtype, string folder, Action<string>? addTokenizer)
    {
        if (Path.Exists(folder))
        {
            throw new IOException($"{folder} exists already; give another folder, or remove it.");
        }

        TorchSupplier.Require();
        var json = FamilyRegistry.Find(family, "--family").NewConfig(shape);
        json["torch_dtype"] = dtype.ToString().ToLowerInvariant();
        var config = FamilyRegistry.Read(json, "the new config.json");
        using var source = new RandomWeightSource(seed, config.InitializerRange, float32, CPU);
        using var model = new CausalLanguageModel(config, source);
        AtomicFolder.Write(folder, work =>
        {
            _ = CheckpointWriter.Write(work, [.. model.named_parameters().Select(p => TensorFiles.ToWrite(p.name, p.parameter, dtype))]);
            AtomicFile.WriteText(Path.Combine(work, ModelFolder.ConfigName), PythonJson.Serialize(json, indent: 2, sortKeys: false) + "\n");
            var generation = new JsonObject { ["bos_token_id"] = shape.BosToken, ["eos_token_id"] = shape.EosToken };
            AtomicFile.WriteText(Path.Combine(work, "generation_config.json"), PythonJson.Serialize(generation, indent: 2, sortKeys: false) + "\n");
            addTokenizer?.Invoke(work);
        });
        return model.parameters().Sum(static p => p.numel());
    }
}
