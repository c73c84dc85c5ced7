using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Scoping;

/// <summary>The variables of a function of a template while it runs.</summary>
internal sealed class Activation
{
    private readonly Activation? parent;

    /// <param name="state">The render.</param>
    /// <param name="function">The function.</param>
    /// <param name="parent">The run of the function around it that it sees the variables of.</param>
    public Activation(RenderState state, FunctionScope function, Activation? parent)
    {
        State = state;
        this.parent = parent;
        Slots = new object?[function.SlotCount];
        Array.Fill(Slots, Missing.Value);
    }

    public RenderState State { get; }

    public object?[] Slots { get; }

    public object? Get(Slot slot) => At(slot).Slots[slot.Index];

    public void Set(Slot slot, object? value) => At(slot).Slots[slot.Index] = value;

    private Activation At(Slot slot)
    {
        var activation = this;
        for (var i = 0; i < slot.Hops; i++)
        {
            activation = activation.parent!;
        }

        return activation;
    }
}
