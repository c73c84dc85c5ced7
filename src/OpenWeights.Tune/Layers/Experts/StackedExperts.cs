using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Experts;

/// <summary>
/// The experts of a mixture: each of their matrices is one parameter for all of them, named as in transformers 5 (see <see cref="ExpertSettings"/>).
/// </summary>
internal sealed class StackedExperts : nn.Module, IWeighted
{
    /// <summary>Creates the experts.</summary>
    /// <param name="settings">Settings of the experts.</param>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="name">Name of the module in the checkpoint, such as model.layers.0.mlp.experts.</param>
    public StackedExperts(ExpertSettings settings, IWeightSource weights, string name)
        : base(nameof(StackedExperts))
    {
        ArgumentNullException.ThrowIfNull(settings);
        ArgumentNullException.ThrowIfNull(weights);
        Settings = settings;
        var (hidden, inner) = (new Dimension("hidden_size", settings.HiddenSize), settings.Inner);
        First = new ExpertMatrix(settings, weights, name, settings.FirstName, settings.HasGate ? new Dimension($"2 x {inner.Setting}", 2 * inner.Size) : inner, hidden);
        Down = new ExpertMatrix(settings, weights, name, "down_proj", hidden, inner);
        foreach (var slot in Slots.Where(static s => s.Own is not null))
        {
            register_parameter(slot.Name, slot.Own!);
        }
    }

    /// <summary>Settings of the experts.</summary>
    internal ExpertSettings Settings { get; }

    /// <summary>Gate and up projections, or the up projection if there is no gate.</summary>
    internal ExpertMatrix First { get; }

    /// <summary>The down projections.</summary>
    internal ExpertMatrix Down { get; }

    /// <summary>Both.</summary>
    internal IReadOnlyList<ExpertMatrix> Matrices => [First, Down];

    /// <inheritdoc/>
    public IReadOnlyList<WeightSlot> Slots => [.. Matrices.SelectMany(static m => m.Slots)];

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            First.Dispose();
            Down.Dispose();
        }

        base.Dispose(disposing);
    }
}
