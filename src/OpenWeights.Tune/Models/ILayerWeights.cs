namespace OpenWeights.Tune.Models;

/// <summary>
/// What becomes of weights and gradients around their computation, where ranks share them out: those of each layer, of the embedding ahead of the layers, and of the head behind
/// them. All ranks call the members in the same order.
/// </summary>
internal interface ILayerWeights
{
    /// <summary>The place of the embedding.</summary>
    internal const int AheadOfLayers = -1;

    /// <summary>Called before a layer is computed: afterwards its weights are there.</summary>
    /// <param name="layer">Index of the layer; <see cref="AheadOfLayers"/> for the embedding, and the number of layers for the head.</param>
    /// <param name="isBackward">Whether it is computed again for its gradients, so that the layer before it is next.</param>
    void Enter(int layer, bool isBackward);

    /// <summary>Called when a layer was computed.</summary>
    /// <param name="layer">Index of the layer.</param>
    /// <param name="isBackward">Whether its gradients were.</param>
    /// <param name="returns">Whether a backward pass will follow.</param>
    void Leave(int layer, bool isBackward, bool returns);

    /// <summary>Whether this rank has all weights, at any time.</summary>
    bool HasAll { get; }

    /// <summary>Called before a pass that other ranks may not have, such as the one for the next token of a text; they are in <see cref="TakePart"/> then, or have one too.</summary>
    void BeginOwn();

    /// <summary>Takes part in the passes that other ranks have of their own, with nothing to compute, until none has more.</summary>
    void TakePart();

    /// <summary>Makes the values of a tensor or module readable, and perhaps those of no other layer.</summary>
    /// <param name="name">Its name, such as model.layers.3.mlp.up_proj.weight; null for none any more.</param>
    /// <param name="writes">Whether its values are changed.</param>
    void Show(string? name, bool writes = false);

    /// <summary>Takes a part whose weights were just read; afterwards they are there only while they are asked for.</summary>
    /// <param name="part">A layer, an embedding or the head.</param>
    void Made(TorchSharp.torch.nn.Module part);

    /// <summary>Takes the model of the layers.</summary>
    /// <param name="model">The model.</param>
    void Complete(CausalLanguageModel model);
}
