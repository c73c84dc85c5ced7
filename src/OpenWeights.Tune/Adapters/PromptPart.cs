using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>Virtual tokens ahead of every text.</summary>
/// <param name="model">The model.</param>
/// <param name="embedding">Embeddings of the virtual tokens, or the encoder's input, [tokens, width].</param>
/// <param name="encoder">Computes the finished embeddings from the parameters, the first of which is the embedding, with dropout or without; null if they are finished.</param>
/// <param name="weights">The encoder's further parameters by their names in PEFT's module.</param>
internal abstract class PromptPart(CausalLanguageModel model, Parameter embedding, Func<IReadOnlyList<Tensor>, bool, Tensor>? encoder, params (string Name, Parameter Parameter)[] weights)
    : AdapterPart("prompt_encoder"), IVirtualTokens
{
    private readonly (string Name, Parameter Parameter)[] _all = [("embedding.weight", embedding), .. weights];
    private Tensor? _kept;
    private bool _training;

    /// <inheritdoc/>
    public int Count => (int)embedding.size(0);

    /// <summary>Whether an encoder computes the embeddings.</summary>
    internal bool HasEncoder => encoder is not null;

    public override IEnumerable<(string Name, Parameter Parameter)> Parameters => _all.Select(static p => ($"prompt_encoder.{p.Name}", p.Parameter));

    public override IEnumerable<string> ChangedTensors => [];

    internal override bool Enabled
    {
        get => model.Stack.Virtual == this;
        set => model.Stack.Virtual = value ? this : null;
    }

    internal override bool Training
    {
        set
        {
            _training = value;
            Forget();
        }
    }

    public override Tensor Merged(string tensor, Tensor weight) => throw new NotSupportedException("virtual tokens cannot be merged into weights.");

    public abstract Tensor? Embeddings();

    public abstract (Tensor Keys, Tensor Values)? KeysAndValues(int layer);

    internal override IEnumerable<(string Name, Tensor Tensor)> FileTensors()
    {
        using var nothing = no_grad();
        return [("prompt_embeddings", Compute(drops: false))];
    }

    internal override void Restore(Func<string, Tensor> read)
    {
        Forget();
        if (encoder is null)
        {
            using var scope = NewDisposeScope();
            _ = embedding.copy_(read("prompt_embeddings"));
        }
    }

    /// <summary>The finished embeddings, [tokens, width]; in the current dispose scope, or kept.</summary>
    private protected Tensor Finished()
    {
        if (encoder is null)
        {
            return embedding;
        }

        // An encoder is not run again for every generated token.
        return is_grad_enabled() || _training ? Compute(_training) : _kept ??= Compute(drops: false).DetachFromDisposeScope();
    }

    private protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            Forget();
            foreach (var (_, parameter) in _all)
            {
                parameter.Dispose();
            }
        }
    }

    private Tensor Compute(bool drops)
    {
        if (encoder is null)
        {
            return embedding;
        }

        using var scope = NewDisposeScope();
        return encoder([.. _all.Select(static p => p.Parameter)], drops).MoveToOuterDisposeScope();
    }

    private void Forget()
    {
        _kept?.Dispose();
        _kept = null;
    }
}

/// <summary>Virtual tokens that are embeddings, which all layers read like those of words.</summary>
internal sealed class EmbeddingPrompt(CausalLanguageModel model, Parameter embedding, Func<IReadOnlyList<Tensor>, bool, Tensor>? encoder, params (string Name, Parameter Parameter)[] weights)
    : PromptPart(model, embedding, encoder, weights)
{
    public override Tensor? Embeddings() => Finished();

    public override (Tensor Keys, Tensor Values)? KeysAndValues(int layer) => null;
}

/// <summary>Virtual tokens that are keys and values of every layer: of each token a key and a value for each layer.</summary>
/// <param name="model">The model.</param>
/// <param name="heads">Number of key and value heads.</param>
/// <param name="embedding">The keys and values, or the encoder's input.</param>
/// <param name="encoder">Computes the keys and values.</param>
/// <param name="weights">The encoder's further parameters.</param>
internal sealed class PrefixPrompt(CausalLanguageModel model, int heads, Parameter embedding, Func<IReadOnlyList<Tensor>, bool, Tensor>? encoder, params (string Name, Parameter Parameter)[] weights)
    : PromptPart(model, embedding, encoder, weights)
{
    private readonly int _layers = model.Config.LayerCount;

    public override Tensor? Embeddings() => null;

    public override (Tensor Keys, Tensor Values)? KeysAndValues(int layer)
    {
        // [tokens, layers x 2, heads, width of a head]
        var all = Finished().view(Count, 2 * _layers, heads, -1);
        return (all.select(1, 2 * layer).transpose(0, 1), all.select(1, (2 * layer) + 1).transpose(0, 1));
    }
}
