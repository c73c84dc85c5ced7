using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Layers.Rope;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers;

/// <summary>Inputs of a layer in a forward pass besides its states: rotary tables, attention mask, and cached state of earlier tokens.</summary>
internal sealed record LayerContext
{
    /// <summary>Rotary cosines, [batch or 1, 1, tokens, rotated dimensions / 2]; null for a layer without rotary embedding.</summary>
    public Tensor? Cos { get; init; }

    /// <summary>Rotary sines, of the same shape.</summary>
    public Tensor? Sin { get; init; }

    /// <summary>
    /// Attention mask, [batch or 1, 1, queries, keys]: true where a query (row) may attend to a key (column) or, for the fused kernels of GPUs, 0 there and
    /// -inf elsewhere; null for plain causal attention.
    /// </summary>
    public Tensor? Mask { get; init; }

    /// <summary>
    /// Document of each of the tokens, [batch, tokens], int64, with 0 for padding, for mixers with a state that must not pass from one document
    /// to the next; null if each row is one document without padding before its end.
    /// </summary>
    public Tensor? Documents { get; init; }

    /// <summary>Positions of the tokens, [batch or 1, tokens], int64, for mixers that need them; otherwise null.</summary>
    public Tensor? Positions { get; init; }

    /// <summary>1 for the tokens to which an adapter applies that does not apply to all of them, [batch, tokens, 1]; null without such an adapter.</summary>
    public Tensor? Adapted { get; init; }

    /// <summary>The layer's own input besides the states, [batch, tokens, width]; null for none.</summary>
    public Tensor? PerLayerInput { get; init; }

    /// <summary>Keys and values of an earlier layer, for attention that has none of its own; otherwise null.</summary>
    public LentKeyValues? Borrowed { get; init; }

    /// <summary>Where attention notes its keys and values for later layers; null if none uses them.</summary>
    public LentKeyValues? Lent { get; init; }

    /// <summary>Keys and values of virtual tokens, each [heads, tokens, head_dim], which stand for those of the first tokens; null for none.</summary>
    internal IReadOnlyList<Tensor>? VirtualKeys { get; init; }

    /// <summary>Whether there is a single query at the position of the last key, which attends to all keys.</summary>
    public bool LooksAtAll { get; init; }

    /// <summary>State of earlier tokens, created by the mixer's <see cref="TokenMixer.NewState"/>; null without a cache.</summary>
    public LayerState? State { get; init; }

    /// <summary>
    /// The contexts of the texts that the batch consists of, each with a state of its own, in place of one of them all: the texts are rows, or follow each
    /// other in one row. Null for one context.
    /// </summary>
    internal IReadOnlyList<LayerContext>? Texts { get; init; }

    /// <summary>Number of tokens of each of the texts.</summary>
    internal long[] TextLengths { get; init; } = [];

    /// <summary>Whether earlier tokens have a state.</summary>
    internal bool HasState => State is not null || Texts is not null;

    /// <summary>Records router logits, or null.</summary>
    public RouterRecord? Routers { get; init; }

    /// <summary>Stores the attention output, or provides it in recomputation; null for neither.</summary>
    internal SavedAttention? Saved { get; init; }

    /// <summary>Whether a layer is recomputed only for its gradients. Its last product, which only the output needs, is then skipped.</summary>
    internal bool OnlyForGradients { get; init; }

    /// <summary>The same context for a part whose output is needed.</summary>
    internal LayerContext ForValues => OnlyForGradients ? this with { OnlyForGradients = false } : this;

    /// <summary>
    /// Computes what depends on earlier tokens: of a batch of several texts for each by itself, with its own state, so that it is what it would be alone.
    /// </summary>
    /// <param name="inputs">The inputs of the tokens.</param>
    /// <param name="tokens">Dimension of the tokens in inputs and output; the rows are dimension 0.</param>
    /// <param name="compute">Computes the output of some tokens in a context.</param>
    /// <returns>The output of all tokens, in the caller's dispose scope.</returns>
    internal Tensor ByText(IReadOnlyList<Tensor> inputs, int tokens, Func<IReadOnlyList<Tensor>, LayerContext, Tensor> compute)
    {
        if (Texts is not { } texts)
        {
            return compute(inputs, this);
        }

        using var scope = NewDisposeScope();
        var dimension = inputs[0].size(0) == 1 ? tokens : 0;
        var parts = inputs.Select(i => i.split(TextLengths, dimension)).ToList();
        return cat([.. texts.Select((own, i) => compute([.. parts.Select(p => p[i])], own))], dimension).MoveToOuterDisposeScope();
    }

    /// <summary>Tensors shared by layers. Checkpointing saves them to recompute a layer.</summary>
    internal IReadOnlyList<Tensor?> Tensors => [Cos, Sin, Mask, Documents, Positions, Adapted];

    /// <summary>The tensors that are inputs of this layer alone and may have gradients.</summary>
    internal IReadOnlyList<Tensor?> Inputs => [PerLayerInput, Borrowed?.Keys, Borrowed?.Values, VirtualKeys?[0], VirtualKeys?[1]];

    /// <summary>A copy with other <see cref="Inputs"/>.</summary>
    /// <param name="inputs">The same number of tensors, in the same order; empty for none.</param>
    internal LayerContext WithInputs(params IReadOnlyList<Tensor?> inputs) =>
        inputs.Count == 0
            ? this with { PerLayerInput = null, Borrowed = null, VirtualKeys = null }
            : this with { PerLayerInput = inputs[0], Borrowed = inputs[1] is null ? null : new LentKeyValues(inputs[1], inputs[2]), VirtualKeys = inputs[3] is null ? null : [inputs[3]!, inputs[4]!] };

    /// <summary>A copy with other <see cref="Tensors"/>.</summary>
    /// <param name="tensors">The same number of tensors, in the same order; empty for none.</param>
    internal LayerContext With(params IReadOnlyList<Tensor?> tensors) =>
        tensors.Count == 0
            ? this with { Cos = null, Sin = null, Mask = null, Documents = null, Positions = null, Adapted = null }
            : this with { Cos = tensors[0], Sin = tensors[1], Mask = tensors[2], Documents = tensors[3], Positions = tensors[4], Adapted = tensors[5] };
}

/// <summary>Inputs that a mixer needs in a forward pass. Layers with equal needs share them.</summary>
internal sealed record MixerNeeds
{
    /// <summary>A mixer that needs neither positions nor a mask.</summary>
    internal static MixerNeeds Nothing { get; } = new();

    /// <summary>Rotary position embedding; null for none.</summary>
    internal RopeConfig? Rope { get; init; }

    /// <summary>Dimension of the rotated heads.</summary>
    internal int RotaryWidth { get; init; }

    /// <summary>Whether tokens attend to each other, so that a mask is needed.</summary>
    internal bool Looks { get; init; }

    /// <summary>Whether the mixer carries a state from token to token, which restarts at each document (<see cref="LayerContext.Documents"/>).</summary>
    internal bool Restarts { get; init; }

    /// <summary>Whether the mixer computes with the tokens' positions other than by rotary embedding (<see cref="LayerContext.Positions"/>).</summary>
    internal bool Positions { get; init; }

    /// <summary>Sliding window: number of tokens that a token attends to, including itself; null for all.</summary>
    internal int? SlidingWindow { get; init; }

    /// <summary>Index of an earlier layer whose keys and values are used; null for the mixer's own.</summary>
    internal int? KeysOf { get; init; }

    /// <summary>Chunk size: a token attends only to tokens of its own chunk of positions; null for all.</summary>
    internal int? ChunkSize { get; init; }

    /// <summary>Whether scores have a soft cap or attention sinks, which no fused GPU kernel supports.</summary>
    internal bool LimitsScores { get; init; }
}
