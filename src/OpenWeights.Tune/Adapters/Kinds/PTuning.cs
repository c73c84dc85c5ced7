using OpenWeights.Tune.Configuration;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Kinds;

/// <summary>Settings of p-tuning, with PEFT's names.</summary>
[AdapterType("p_tuning")]
internal sealed record PTuningConfig : PromptConfig
{
    /// <summary>encoder_reparameterization_type: what computes the embeddings.</summary>
    [Setting("What computes the embeddings while training: a network of three layers, or a bidirectional LSTM over the virtual tokens with two layers behind it.", OneOf = ["MLP", "LSTM"])]
    public string EncoderReparameterizationType { get; init; } = "MLP";

    /// <summary>encoder_hidden_size: width of the encoder; null for the model's.</summary>
    [Setting("Width of the encoder; by default the model's hidden_size.", Min = 1)]
    public int? EncoderHiddenSize { get; init; }

    /// <summary>encoder_num_layers: layers of the LSTM.</summary>
    [Setting("Layers of the LSTM; the MLP always has three.", Min = 1)]
    public int EncoderNumLayers { get; init; } = 2;

    /// <summary>encoder_dropout: dropout probability between the layers of the LSTM while training.</summary>
    [Setting("Dropout probability between the layers of the LSTM while training.", Min = 0, Max = 0.999)]
    public double EncoderDropout { get; init; }
}

/// <summary>P-tuning (Liu et al., 2021): the embeddings of virtual tokens come from a trained network.</summary>
internal sealed class PTuningKind : PromptKind<PTuningConfig>
{
    internal override string PeftType => "P_TUNING";

    private protected override PromptPart Part(PTuningConfig config, AdapterTensors tensors)
    {
        long width = tensors.Model.Config.HiddenSize;
        if (tensors.ReadsFile)
        {
            return new EmbeddingPrompt(tensors.Model, new Parameter(tensors.Take(FileName, Fills.Zeros, config.NumVirtualTokens, width)), encoder: null);
        }

        var hidden = config.EncoderHiddenSize ?? width;
        Parameter Take(string name, Fill fill, params long[] shape) => new(tensors.Take(name, fill, shape));
        (string, Parameter)[] Layer(string name, long output, long input) =>
            [($"{name}.weight", Take(name, Fills.Kaiming, output, input)), ($"{name}.bias", Take(name, Fills.Uniform(1 / Math.Sqrt(input)), output))];
        var embedding = Take("embedding", Fills.Normal(1), config.NumVirtualTokens, width);
        if (config.EncoderReparameterizationType == "LSTM")
        {
            var lstm = new LstmEncoder(config.EncoderNumLayers, config.EncoderDropout);
            return new EmbeddingPrompt(tensors.Model, embedding, lstm.Encode, [.. lstm.Parameters(width, hidden, Take), .. Layer("mlp_head.0", 2 * hidden, 2 * hidden), .. Layer("mlp_head.2", width, 2 * hidden)]);
        }

        return new EmbeddingPrompt(
            tensors.Model, embedding, Encode,
            [.. Layer("mlp_head.0", hidden, width), .. Layer("mlp_head.2", hidden, hidden), .. Layer("mlp_head.4", width, hidden)]);
    }

    private static Tensor Encode(IReadOnlyList<Tensor> weights, bool isTraining)
    {
        var states = nn.functional.relu(nn.functional.linear(weights[0], weights[1], weights[2]));
        states = nn.functional.relu(nn.functional.linear(states, weights[3], weights[4]));
        return nn.functional.linear(states, weights[5], weights[6]);
    }
}
