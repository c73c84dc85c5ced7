using OpenWeights.Tune.Layers;
using TorchSharp;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>A decoder with its output head. Parameter names are the checkpoint's.</summary>
public sealed class CausalLanguageModel : nn.Module<ModelInput, Tensor>
{
    [ComponentName(Name = "model")]
    private readonly DecoderStack _stack;

    // The tied head is the embedding's parameter and has no name of its own, so it is held outside the registered fields.
    private readonly LinearLayer[] _tiedHead = [];

    [ComponentName(Name = "lm_head")]
    private readonly LinearLayer? _head;

    /// <summary>The model that a config asks for.</summary>
    /// <param name="config">The decoder's settings.</param>
    /// <param name="weights">Where weights come from.</param>
    public CausalLanguageModel(DecoderConfig config, IWeightSource weights)
        : base(nameof(CausalLanguageModel))
    {
        ArgumentNullException.ThrowIfNull(config);
        Config = config;
        _stack = new DecoderStack(config, weights, "model");
        if (config.TiedEmbeddings)
        {
            _tiedHead = [new LinearLayer(_stack.Embedding.Weight, null)];
        }
        else
        {
            _head = LinearLayer.Take(
                weights, "lm_head", new Dimension("vocab_size", config.VocabularySize), new Dimension("hidden_size", config.HiddenSize), hasBias: false);
        }

        RegisterComponents();
        LinearLayers = [.. named_modules().Where(static m => m.module is LinearLayer).Select(static m => (m.name, (LinearLayer)m.module))];
    }

    /// <summary>The decoder's settings.</summary>
    public DecoderConfig Config { get; }

    /// <summary>The folder that the weights were read from; null where they come from elsewhere.</summary>
    internal string? SourceFolder { get; init; }

    /// <summary>Whether the weights have shapes and no values.</summary>
    internal bool IsMeta { get; init; }

    /// <summary>The output head; where it is tied, a layer around the embedding's parameter.</summary>
    public LinearLayer Head => _head ?? _tiedHead[0];

    /// <summary>The layers below the head.</summary>
    public DecoderStack Stack => _stack;

    /// <summary>Every linear layer by its name, such as model.layers.0.self_attn.q_proj; lm_head is among them where it is not tied.</summary>
    public IReadOnlyList<(string Name, LinearLayer Layer)> LinearLayers { get; }

    /// <summary>
    /// The modules that an adapter may name, by the names that the reference gives them: as <see cref="LinearLayers"/>, the token embedding,
    /// the norms, and lm_head also where it is tied.
    /// </summary>
    public IReadOnlyList<(string Name, nn.Module Module)> AdaptableModules =>
        [.. named_modules().Where(static m => m.module is IWeighted), .. _tiedHead.Select(static h => ("lm_head", (nn.Module)h))];

    /// <summary>The number of parameters, those in quantised form included.</summary>
    public long ParameterCount => parameters().Sum(static p => p.numel()) + LinearLayers.Sum(static l => l.Layer.Quantized?.Count ?? 0);

    /// <summary>The bytes of all parameters as they are held.</summary>
    public long ParameterBytes => parameters().Sum(static p => p.numel() * p.element_size()) + LinearLayers.Sum(static l => l.Layer.Quantized?.ByteLength ?? 0);

    /// <summary>The device of the weights.</summary>
    public Device Device => _stack.Embedding.Weight.device;

    /// <summary>The dtype of the weights.</summary>
    public ScalarType DType => _stack.Embedding.Weight.dtype;

    /// <summary>Token ids to hidden states after the last norm, [batch, tokens, hidden]; <see cref="Logits"/> makes scores of them.</summary>
    public override Tensor forward(ModelInput input) => _stack.call(input);

    /// <summary>Scores of the next token, [..., vocabulary], in float32.</summary>
    /// <param name="hidden">Hidden states, [..., hidden].</param>
    public Tensor Logits(Tensor hidden)
    {
        using var scope = NewDisposeScope();
        var logits = Head.call(hidden).to(float32);
        if (Config.LogitMultiplier != 1)
        {
            using Scalar multiplier = Config.LogitMultiplier;
            logits = logits.mul(multiplier);
        }

        if (Config.LogitSoftCap is { } limit)
        {
            using Scalar inverse = 1 / limit;
            using Scalar cap = limit;
            logits = logits.mul(inverse).tanh().mul(cap);
        }

        return logits.MoveToOuterDisposeScope();
    }
}
