using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Adapters.Starts;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>Adapter weights from a file written by PEFT or this program; the file has been checked against the model.</summary>
/// <param name="model">The base model.</param>
/// <param name="config">The settings.</param>
/// <param name="file">The file.</param>
/// <param name="start">The file of the adapter's start, if it is not converted and lies beside; otherwise null.</param>
internal sealed class FileWeights(CausalLanguageModel model, LoraConfig config, ITensorSource file, ITensorSource? start = null) : FileTensors(model, file), IAdapterWeights
{
    public LoraWeights Linear(string module, LinearLayer layer, int rank)
    {
        var context = new StartContext(module, layer, rank, config.ScaleOf(config.PatternName(module)), config) { Device = DeviceOf(module) };
        var own = new LoraWeights(Read($"{module}.lora_A.weight"), Read($"{module}.lora_B.weight"))
        {
            OutputBias = config.LoraBias ? Read($"{module}.lora_B.bias") : null,
            Magnitude = config.UseDora ? Read($"{module}.lora_magnitude_vector") : null,
            Blocks = config.BlockDiagonal?.Of(module),
            TrainsB = config.Init != LoraInit.Mica,
        };
        if (Model.IsMeta && (config.Kasa is not null || LoraStarts.ChangesBase(config.Init)))
        {
            // An outline of the base has no values to decompose.
            return own with { Diagonal = config.Kasa is null ? null : Read($"{module}.lora_diag"), Start = (own.A.clone().DetachFromDisposeScope(), own.B.clone().DetachFromDisposeScope()) };
        }

        return config.Kasa is not null ? own with { Diagonal = Read($"{module}.lora_diag"), Start = LoraForms.KasaStart(context) }
            : LoraStarts.ChangesBase(config.Init) ? Over(context, own)
            : own;
    }

    public (Tensor A, Tensor B, Tensor? Magnitude) Embedding(string module, TokenEmbedding layer, int rank) =>
        (Read($"{module}.lora_embedding_A"), Read($"{module}.lora_embedding_B"), config.UseDora ? Read($"{module}.lora_magnitude_vector") : null);

    public Tensor Rows(string fileName, nn.Module module, IReadOnlyList<int> tokens) => Read(fileName);

    public (Tensor A, Tensor B) Experts(string file, ExpertMatrix matrix, int rank) => (Read($"{file}.lora_A.weight"), Read($"{file}.lora_B.weight"));

    /// <summary>Reads a tensor of the base's files; null if they are not there.</summary>
    /// <param name="model">The base model.</param>
    internal static Func<string, Tensor?> Original(CausalLanguageModel model) => name =>
    {
        if (model.SourceFolder is not { } folder)
        {
            return null;
        }

        using var weights = Formats.HuggingFace.ModelFolder.Open(folder).OpenWeights();
        return weights.TryGetTensor(name, out _) ? TensorFiles.Read(weights, name, WideNumbers.Of(model.DType), model.DeviceOf(name)) : null;
    };

    private Tensor Read(ITensorSource source, string name)
    {
        using var scope = NewDisposeScope();
        return scope.Detach(TensorFiles.Read(source, PeftFolder.FileName(name), WideNumbers.Of(Model.DType), DeviceOf(name)));
    }

    // The adapter was trained over the weight minus the product B0 A0: of the file of its start, or of the same decomposition, where signs do not matter.
    private LoraWeights Over(StartContext context, LoraWeights own)
    {
        if (start is not null && LoraStarts.SubtractsStart(config.Init))
        {
            return own with { Start = (Read(start, $"{context.Module}.lora_A.weight"), Read(start, $"{context.Module}.lora_B.weight")) };
        }

        if (config.Init == LoraInit.Loftq && context.Layer.Quantized is not null)
        {
            return own;
        }

        var weights = LoraStarts.Make(context);
        weights.A.Dispose();
        weights.B.Dispose();
        return own with { Start = weights.Start, Base = weights.Base };
    }
}
