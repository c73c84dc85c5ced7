using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Models;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Kinds;

/// <summary>Settings of prefix tuning, with PEFT's names.</summary>
[AdapterType("prefix_tuning")]
internal sealed record PrefixTuningConfig : PromptConfig
{
    /// <summary>prefix_projection: whether a network of two layers computes the keys and values.</summary>
    [Setting("Compute the keys and values by a trained network of two layers.")]
    public bool PrefixProjection { get; init; }

    /// <summary>encoder_hidden_size: width of that network; null for the model's.</summary>
    [Setting("With prefix_projection, the width of the network; by default that of a layer's keys.", Min = 1)]
    public int? EncoderHiddenSize { get; init; }

    /// <summary>init_weights: zero to start with keys and values of zero.</summary>
    [Setting("zero starts with keys and values of zero; by default they are random.", OneOf = ["zero"])]
    public string? InitWeights { get; init; }
}

/// <summary>Prefix tuning (Li and Liang, 2021): keys and values of virtual tokens are trained in every layer.</summary>
internal sealed class PrefixTuningKind : PromptKind<PrefixTuningConfig>
{
    internal override string PeftType => "PREFIX_TUNING";

    private protected override (string Setting, string Message)? Problem(CausalLanguageModel model, PrefixTuningConfig config)
    {
        var attention = model.Stack.Layers.Select(static l => l.Mixer?.Part as SelfAttention).ToList();
        return attention.Exists(static a => a is null || a.Settings.KeysOf is not null || a.Settings.ValueHeadDimension is not null) || attention.Select(static a => (a!.Settings.KeyValueHeadCount, a.Settings.HeadDimension)).Distinct().Count() > 1
            ? ("type", $"prefix_tuning needs plain attention with the same number of keys in every layer, which {model.Config.ModelType} does not have; use prompt_tuning.")
            : null;
    }

    private protected override (long Width, int Heads) Shape(CausalLanguageModel model)
    {
        var settings = ((SelfAttention)model.Stack.Layers[0].Mixer!.Part).Settings;
        return ((long)settings.KeyValueHeadCount * settings.HeadDimension, settings.KeyValueHeadCount);
    }

    private protected override PromptPart Part(PrefixTuningConfig config, AdapterTensors tensors)
    {
        var ((width, heads), tokens) = (Shape(tensors.Model), config.NumVirtualTokens);
        var all = width * 2 * tensors.Model.Config.LayerCount;
        var start = config.InitWeights == "zero" ? Fills.Zeros : null;
        Parameter Take(string name, Fill fill, params long[] shape) => new(tensors.Take(name, fill, shape));
        if (tensors.ReadsFile || !config.PrefixProjection)
        {
            return new PrefixPrompt(tensors.Model, heads, Take(FileName, start ?? Fills.Normal(1), tokens, all), encoder: null);
        }

        var hidden = config.EncoderHiddenSize ?? width;
        return new PrefixPrompt(
            tensors.Model, heads, Take("embedding", Fills.Normal(1), tokens, width),
            static (w, _) => nn.functional.linear(nn.functional.linear(w[0], w[1], w[2]).tanh(), w[3], w[4]),
            ("transform.0.weight", Take("transform.0", Fills.Kaiming, hidden, width)), ("transform.0.bias", Take("transform.0", Fills.Uniform(1 / Math.Sqrt(width)), hidden)),
            ("transform.2.weight", Take("transform.2", start ?? Fills.Kaiming, all, hidden)), ("transform.2.bias", Take("transform.2", start ?? Fills.Uniform(1 / Math.Sqrt(hidden)), all)));
    }
}
