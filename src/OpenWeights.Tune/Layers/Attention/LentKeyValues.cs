using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Attention;

/// <summary>
/// Keys and values that a layer's attention computed and attention of later layers uses again (Brandon et al., 2024). They live as long as
/// the dispose scope in which this was created.
/// </summary>
internal sealed class LentKeyValues
{
    private readonly DisposeScope? _scope = CurrentDisposeScope;

    /// <summary>Creates a place for keys and values that are still to be computed.</summary>
    public LentKeyValues()
    {
    }

    /// <summary>Creates it with keys and values.</summary>
    /// <param name="keys">Keys that queries attend to, [batch, key/value heads, keys, head_dim].</param>
    /// <param name="values">Their values.</param>
    internal LentKeyValues(Tensor? keys, Tensor? values) => (Keys, Values) = (keys, values);

    /// <summary>The keys; null until they are computed.</summary>
    public Tensor? Keys { get; private set; }

    /// <summary>The values; null until they are computed.</summary>
    public Tensor? Values { get; private set; }

    /// <summary>Notes keys and values.</summary>
    internal void Note(Tensor keys, Tensor values) => (Keys, Values) = (Kept(keys), Kept(values));

    private Tensor Kept(Tensor states)
    {
        var kept = states.alias();

        // A move to the scope where a tensor already is would take it out of that scope.
        return _scope is null || ReferenceEquals(_scope, CurrentDisposeScope) ? kept : kept.MoveToOtherDisposeScope(_scope);
    }
}
