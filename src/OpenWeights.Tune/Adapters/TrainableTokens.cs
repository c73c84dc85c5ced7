using OpenWeights.Tune.Layers;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>
/// Trained rows of an embedding or of an output layer, for single tokens (PEFT's trainable_token_indices): they stand in the place of the module's own
/// rows. A head that is tied to the embedding shares its rows.
/// </summary>
internal sealed class TrainableTokens : AdapterPart, IEmbeddingAdapter, ILinearAdapter
{
    private readonly nn.Module _target;
    private readonly TrainableTokens? _shared;
    private readonly TokenFileNames _names;
    private readonly Tensor _indices;
    private readonly Tensor? _places;

    /// <summary>Creates the part.</summary>
    /// <param name="module">Name of the module.</param>
    /// <param name="target">The module: an embedding or a linear layer.</param>
    /// <param name="tokens">The tokens.</param>
    /// <param name="rows">Their rows, [tokens, hidden]; the part takes ownership.</param>
    /// <param name="names">Names in PEFT's file.</param>
    internal TrainableTokens(string module, nn.Module target, IReadOnlyList<int> tokens, Tensor rows, TokenFileNames names)
        : this(module, target, tokens, new Parameter(rows), names)
    {
    }

    /// <summary>The same rows for a head that is tied to the embedding.</summary>
    internal TrainableTokens(string module, nn.Module target, TrainableTokens embedding)
        : this(module, target, embedding.Tokens, embedding.Rows, embedding._names) => _shared = embedding;

    private TrainableTokens(string module, nn.Module target, IReadOnlyList<int> tokens, Parameter rows, TokenFileNames names)
        : base(module)
    {
        (_target, Tokens, Rows, _names) = (target, tokens, rows, names);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        _indices = scope.Detach(tensor([.. tokens.Select(static t => (long)t)], [tokens.Count]).to(rows.device));
        if (target is TokenEmbedding embedding)
        {
            // For each token of the vocabulary its place among the rows, or -1.
            var size = Math.Max(embedding.Slots[0].Own!.size(0), tokens.Max() + 1L);
            _places = scope.Detach(full([size], -1, int64, rows.device).scatter_(0, _indices, arange(tokens.Count, int64, rows.device)));
        }
    }

    /// <summary>The tokens.</summary>
    public IReadOnlyList<int> Tokens { get; }

    /// <summary>Their rows, [tokens, hidden].</summary>
    public Parameter Rows { get; }

    /// <summary>The embedding whose rows they are; null for a linear layer.</summary>
    internal TokenEmbedding? Embedding => _target as TokenEmbedding;

    /// <summary>The linear layer whose rows they are; null for an embedding.</summary>
    internal LinearLayer? Layer => _target as LinearLayer;

    /// <summary>Whether the rows are those of the embedding, to which the head is tied.</summary>
    internal bool IsShared => _shared is not null;

    /// <inheritdoc/>
    public override IEnumerable<(string Name, Parameter Parameter)> Parameters => _shared is null ? [(_names.Rows(Module), Rows)] : [];

    /// <inheritdoc/>
    public override IEnumerable<string> ChangedTensors => _shared is null ? [$"{Module}.weight"] : [];

    /// <inheritdoc/>
    internal override bool Enabled
    {
        get => _target is TokenEmbedding embedding ? embedding.Adapter == this : ((LinearLayer)_target).Adapter == this;
        set
        {
            if (_target is TokenEmbedding embedding)
            {
                embedding.Adapter = value ? this : null;
            }
            else
            {
                ((LinearLayer)_target).Adapter = value ? this : null;
            }
        }
    }

    /// <inheritdoc/>
    public Tensor Apply(TokenEmbedding layer, Tensor ids, Tensor output)
    {
        ArgumentNullException.ThrowIfNull(output);
        using var scope = NewDisposeScope();
        var places = _places!.index_select(0, ids);
        using TorchSharp.Scalar none = 0L;
        var chosen = Rows.index_select(0, places.clamp_min(none)).to(output.dtype);
        return where(places.ge(none).unsqueeze(-1), chosen, output).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public Tensor Apply(LinearLayer layer, Tensor input, Tensor output)
    {
        ArgumentNullException.ThrowIfNull(layer);
        ArgumentNullException.ThrowIfNull(input);
        ArgumentNullException.ThrowIfNull(output);
        using var scope = NewDisposeScope();
        var bias = layer.Bias?.index_select(0, _indices).to(Rows.dtype);
        var scores = nn.functional.linear(input.to(Rows.dtype), Rows, bias).to(output.dtype);
        return output.index_copy(-1, _indices, scores).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public override Tensor Merged(string tensor, Tensor weight)
    {
        ArgumentNullException.ThrowIfNull(weight);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        return weight.index_copy(0, _indices.to(weight.device), Rows.detach().to(float32, weight.device)).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    internal override IEnumerable<(string Name, Tensor Tensor)> FileTensors() => _shared is null || _names.SavesShared ? [(_names.Rows(Module), Rows)] : [];

    private protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _indices.Dispose();
            _places?.Dispose();
            if (_shared is null)
            {
                Rows.Dispose();
            }
        }
    }
}

/// <summary>Names of trained rows in PEFT's file.</summary>
/// <param name="IsAlone">Whether the adapter trains nothing but rows (peft_type TRAINABLE_TOKENS), and otherwise has LoRA as well.</param>
internal readonly record struct TokenFileNames(bool IsAlone)
{
    /// <summary>Whether a tied head's rows are saved although they are the embedding's.</summary>
    internal bool SavesShared => IsAlone;

    /// <summary>Name of a module's rows.</summary>
    internal string Rows(string module) => IsAlone ? $"{module}.trainable_tokens_delta" : $"{module}.token_adapter.trainable_tokens_delta";

    /// <summary>Name of the module's complete weight, which is saved if the vocabulary was resized.</summary>
    internal string Base(string module) => IsAlone ? $"{module}.base_layer.weight" : $"{module}.token_adapter.base_layer.weight";
}
