using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Torch;
using TorchSharp;
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
    private readonly Norm _norm;

    private readonly DecoderConfig _config;

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
        _config = config;
        _embedding = new TokenEmbedding(weights.Take(
            $"{name}.embed_tokens.weight", InitialWeight.Normal, new Dimension("vocab_size", config.VocabularySize), hidden));
        _layers = new ModuleList<DecoderLayer>(
            [.. Enumerable.Range(0, config.LayerCount).Select(i => new DecoderLayer(config.LayerSettings(i), weights, $"{name}.layers.{i}"))]);
        _norm = config.Norm.Take(weights, $"{name}.norm", hidden);
        RegisterComponents();
    }

    /// <summary>The token embedding.</summary>
    public TokenEmbedding Embedding => _embedding;

    /// <summary>The layers.</summary>
    internal ModuleList<DecoderLayer> Layers => _layers;

    /// <summary>The norm after the last layer.</summary>
    internal Norm Norm => _norm;

    /// <summary>Which activations inside layers are computed again in backward instead of being kept.</summary>
    public ActivationCheckpointing ActivationCheckpointing { get; set; }

    /// <summary>Whether what is kept of layers that are computed again waits in the CPU's memory.</summary>
    public bool OffloadsActivations { get; set; }

    /// <summary>Token ids to hidden states after the last norm, [batch, tokens, hidden].</summary>
    /// <exception cref="InvalidOperationException">The text does not go on from its cache: see <see cref="Continues"/>.</exception>
    public override Tensor forward(ModelInput input)
    {
        ArgumentNullException.ThrowIfNull(input);
        if (input.Cache is { } cache && !Continues(cache, input.LongestPosition))
        {
            throw new InvalidOperationException("the cache holds keys that a text of this length would have turned differently; read the text anew with an empty cache.");
        }

        using var scope = NewDisposeScope();
        var draws = is_grad_enabled() && input.Cache is null;
        if (draws)
        {
            RandomState.Begin(input.InputIds.device);
        }

        var states = Embed(input.InputIds);
        var contexts = new LayerContexts(input, states.dtype);
        var checkpointing = ActivationCheckpointing != ActivationCheckpointing.None && draws;
        if (checkpointing && !states.requires_grad)
        {
            // With a frozen embedding nothing before the first layer asks for a gradient; the recomputed layers must be reached all the same.
            states = states.detach().requires_grad_();
        }

        for (var i = 0; i < _layers.Count; i++)
        {
            var (layer, context) = (_layers[i], contexts.Of(_layers[i], i));
            if (checkpointing && !IsKept(i, states.device))
            {
                states = CheckpointedLayer.Run(states, layer, context, KeepsAttention(states.device), OffloadsActivations);
                continue;
            }

            if (draws)
            {
                RandomState.Begin(states.device);
            }

            states = layer.call(states, context);
        }

        input.Cache?.Advance((int)input.InputIds.size(1), input.LongestPosition);
        return _norm.call(states).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Whether a text up to a position may go on from a cache. Where rotary frequencies depend on the text's length, all that was read
    /// before they changed would come out differently now, so the text has to be read anew.
    /// </summary>
    /// <param name="cache">The cache.</param>
    /// <param name="longestPosition">The largest position of the text that goes on.</param>
    public bool Continues(DecoderCache cache, long longestPosition)
    {
        ArgumentNullException.ThrowIfNull(cache);
        return cache.Length == 0 || _layers.All(l => l.Needs.Rope?.AreSame(cache.LongestPosition + 1, longestPosition + 1) != false);
    }

    // The CPU's attention can go on from what it gave; a GPU's is torch's own, which cannot.
    private bool KeepsAttention(Device device) => ActivationCheckpointing == ActivationCheckpointing.Selective && device.type == DeviceType.CPU;

    private bool IsKept(int layer, Device device) => ActivationCheckpointing == ActivationCheckpointing.Selective && !KeepsAttention(device) && layer % 2 == 1;

    private Tensor Embed(Tensor ids)
    {
        var states = _embedding.call(ids);
        if (_config.EmbeddingMultiplier == 1)
        {
            return states;
        }

        using Scalar multiplier = _config.EmbeddingMultiplier;
        if (!_config.RoundsEmbeddingMultiplier)
        {
            return states.mul(multiplier);
        }

        using var scope = NewDisposeScope();
        return states.mul(ones([1], float32, states.device).mul(multiplier).to(states.dtype)).MoveToOuterDisposeScope();
    }
}
