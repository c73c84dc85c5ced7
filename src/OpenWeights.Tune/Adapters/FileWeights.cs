using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>Adapter weights from a file written by PEFT or this program; the file has been checked against the model.</summary>
internal sealed class FileWeights(CausalLanguageModel model, LoraConfig config, ITensorSource file) : FileTensors(model, file), IAdapterWeights
{
    public LoraWeights Linear(string module, LinearLayer layer, int rank) => new(Read($"{module}.lora_A.weight"), Read($"{module}.lora_B.weight"))
    {
        OutputBias = config.LoraBias ? Read($"{module}.lora_B.bias") : null,
        Magnitude = config.UseDora ? Read($"{module}.lora_magnitude_vector") : null,
        Start = config.Init == LoraInit.Pissa ? Start(module, layer, rank) : null,
    };

    public (Tensor A, Tensor B) Embedding(string module, TokenEmbedding layer, int rank) => (Read($"{module}.lora_embedding_A"), Read($"{module}.lora_embedding_B"));

    public (Tensor A, Tensor B) Experts(string file, ExpertMatrix matrix, int rank) => (Read($"{file}.lora_A.weight"), Read($"{file}.lora_B.weight"));

    // The adapter was trained on the weight minus the product B0 A0 of the same decomposition; the signs of B0 and A0 do not matter.
    private (Tensor A, Tensor B) Start(string module, LinearLayer layer, int rank)
    {
        var weights = FreshWeights.Pissa(module, layer, rank, config.ScaleOf(module));
        weights.A.Dispose();
        weights.B.Dispose();
        return weights.Start!.Value;
    }
}
