using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Attention;

/// <summary>Where the attention of a layer keeps keys and values of earlier tokens.</summary>
internal interface IKeyValues
{
    /// <summary>Appends keys and values of new tokens.</summary>
    /// <param name="keys">Keys, [batch, key/value heads, tokens, head_dim].</param>
    /// <param name="values">Values, of the same shape, except that their heads may have another width.</param>
    /// <returns>The keys and values that the new tokens attend to, up to the last of them, which live as long as the caller's dispose scope.</returns>
    (Tensor Keys, Tensor Values) Append(Tensor keys, Tensor values);
}
