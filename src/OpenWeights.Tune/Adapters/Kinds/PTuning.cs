using OpenWeights.Tune.Configuration;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Kinds;

/// <summary>Settings of p-tuning, with PEFT's names.</summary>
[AdapterType("p_tuning")]
public sealed record PTuningConfig : PromptConfig
{
    /// <summary>encoder_reparameterization_type: what computes the embeddings.</summary>
    [Setting("What computes the embeddings while training. A finished adapter of either can be used; LSTM cannot be trained here.", OneOf = ["MLP", "LSTM"])]
    public string EncoderReparameterizationType { get; init; } = "MLP";

    /// <summary>encoder_hidden_size: width of the encoder; null for the model's.</summary>
    [Setting("Width of the encoder; by default the model's hidden_size.", Min = 1)]
    public int? EncoderHiddenSize { get; init; }
}

/// <summary>P-tuning (Liu et al., 2021): the embeddings of virtual tokens come from a trained network of three layers.</summary>
internal sealed class PTuningKind : PromptKind<PTuningConfig>
{
    internal override string PeftType => "P_TUNING";

    private protected override IReadOnlyCollection<string> Harmless => ["encoder_dropout", "encoder_num_layers"];

    private protected override PromptPart Part(PTuningConfig config, AdapterTensors tensors)
    {
        long width = tensors.Model.Config.HiddenSize;
        if (tensors.ReadsFile)
        {
            return new EmbeddingPrompt(tensors.Model, new Parameter(tensors.Take(FileName, Fills.Zeros, config.NumVirtualTokens, width)), encoder: null);
        }

        if (config.EncoderReparameterizationType != "MLP")
        {
            throw new InvalidDataException("encoder_reparameterization_type: LSTM cannot be trained here; set it to MLP.");
        }

        var hidden = config.EncoderHiddenSize ?? width;
        Parameter Take(string name, Fill fill, params long[] shape) => new(tensors.Take(name, fill, shape));
        (string, Parameter)[] Layer(string name, long output, long input) =>
            [($"{name}.weight", Take(name, Fills.Kaiming, output, input)), ($"{name}.bias", Take(name, Fills.Uniform(1 / Math.Sqrt(input)), output))];
        return new EmbeddingPrompt(
            tensors.Model, Take("embedding", Fills.Normal(1), config.NumVirtualTokens, width), Encode,
            [.. Layer("mlp_head.0", hidden, width), .. Layer("mlp_head.2", hidden, hidden), .. Layer("mlp_head.4", width, hidden)]);
    }

    private static Tensor Encode(IReadOnlyList<Tensor> weights)
    {
        var states = nn.functional.relu(nn.functional.linear(weights[0], weights[1], weights[2]));
        states = nn.functional.relu(nn.functional.linear(states, weights[3], weights[4]));
        return nn.functional.linear(states, weights[5], weights[6]);
    }
}
