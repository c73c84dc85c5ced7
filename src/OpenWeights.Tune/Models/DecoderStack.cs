using OpenWeights.Tune.Models.Rope;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>Embedding, layers and the last norm: a checkpoint's "model".</summary>
public sealed class DecoderStack : nn.Module<ModelInput, Tensor>
{
    [ComponentName(Name = "embed_tokens")]
    private readonly TokenEmbedding _embedding;

    [ComponentName(Name = "layers")]
    private readonly ModuleList<DecoderLayer> _layers;

    [ComponentName(Name = "norm")]
    private readonly RmsNorm _norm;

    private readonly RotaryEmbedding _rotary;

    /// <summary>The stack that a config asks for.</summary>
    /// <param name="config">The decoder's settings.</param>
    /// <param name="weights">Where weights come from.</param>
    /// <param name="name">The stack's name in the checkpoint, "model".</param>
    public DecoderStack(DecoderConfig config, IWeightSource weights, string name)
        : base(nameof(DecoderStack))
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(weights);
        var hidden = new Dimension("hidden_size", config.HiddenSize);
        _embedding = new TokenEmbedding(weights.Take(
            $"{name}.embed_tokens.weight", InitialWeight.Normal, new Dimension("vocab_size", config.VocabularySize), hidden));
        _layers = new ModuleList<DecoderLayer>(
            [.. Enumerable.Range(0, config.LayerCount).Select(i => new DecoderLayer(config, weights, $"{name}.layers.{i}", i))]);
        _norm = new RmsNorm(weights.Take($"{name}.norm.weight", InitialWeight.Ones, hidden), config.NormEpsilon);
        _rotary = new RotaryEmbedding(config.Rope, config.HeadDimension);
        RegisterComponents();
    }

    /// <summary>The token embedding.</summary>
    public TokenEmbedding Embedding => _embedding;

    /// <summary>Whether activations inside layers are computed again in backward instead of being kept (Chen et al., 2016).</summary>
    public bool ActivationCheckpointing { get; set; }

    /// <summary>Token ids to hidden states after the last norm, [batch, tokens, hidden].</summary>
    public override Tensor forward(ModelInput input)
    {
        ArgumentNullException.ThrowIfNull(input);
        using var scope = NewDisposeScope();
        var states = _embedding.call(input.InputIds);
        var (cos, sin) = _rotary.Tables(input.PositionIds, input.LongestPosition + 1, states.dtype);
        var context = new AttentionContext { Cos = cos, Sin = sin, Mask = AttentionMask.For(input), LooksAtAll = input.IsSingleStep, Cache = input.Cache };
        var checkpointing = ActivationCheckpointing && is_grad_enabled() && input.Cache is null;
        if (checkpointing && !states.requires_grad)
        {
            // With a frozen embedding nothing before the first layer asks for a gradient; the recomputed layers must be reached all the same.
            states = states.detach().requires_grad_();
        }

        foreach (var layer in _layers)
        {
            states = checkpointing ? CheckpointedLayer.Run(states, layer, context) : layer.call(states, context);
        }

        input.Cache?.Advance();
        return _norm.call(states).MoveToOuterDisposeScope();
    }
}
