namespace OpenWeights.Tune.Models;

/// <summary>What becomes of a layer's weights and gradients around its computation, where ranks share them out. All ranks call the members in the same order.</summary>
internal interface ILayerWeights
{
    /// <summary>Called before a layer is computed: afterwards its weights are there.</summary>
    /// <param name="layer">Index of the layer.</param>
    /// <param name="isBackward">Whether it is computed again for its gradients, so that the layer before it is next.</param>
    void Enter(int layer, bool isBackward);

    /// <summary>Called when a layer was computed.</summary>
    /// <param name="layer">Index of the layer.</param>
    /// <param name="isBackward">Whether its gradients were.</param>
    /// <param name="returns">Whether a backward pass will follow.</param>
    void Leave(int layer, bool isBackward, bool returns);

    /// <summary>Makes the values of a tensor or module readable, and perhaps those of no other layer.</summary>
    /// <param name="name">Its name, such as model.layers.3.mlp.up_proj.weight; null for none any more.</param>
    /// <param name="writes">Whether its values are changed.</param>
    void Show(string? name, bool writes = false);

    /// <summary>Takes a layer whose weights were just read; afterwards they are there only while they are asked for.</summary>
    /// <param name="layer">The layer.</param>
    void Made(DecoderLayer layer);

    /// <summary>Takes the model of the layers.</summary>
    /// <param name="model">The model.</param>
    void Complete(CausalLanguageModel model);
}
