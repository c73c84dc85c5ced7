using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Scoping;

/// <summary>Gives the variables of a scope their first values when it is entered, and takes them away when it is left.</summary>
internal sealed class FrameSetup
{
    private readonly Entry[] entries;

    /// <param name="frame">The scope; all that it declares must have been declared.</param>
    public FrameSetup(BindFrame frame)
    {
        entries =
        [
            .. frame.Symbols.Loads.Select(pair => new Entry(
                frame.Function.Locate(pair.Key).Index,
                pair.Value.Kind,
                pair.Key.Name,
                pair.Value.Kind == LoadKind.Alias ? frame.Function.Locate(pair.Value.Outer) : default)),
        ];
    }

    public void Enter(Activation activation)
    {
        foreach (var entry in entries)
        {
            if (entry.Kind != LoadKind.Parameter)
            {
                activation.Slots[entry.Index] = entry.Kind switch
                {
                    LoadKind.Resolve => activation.State.Resolve(entry.Name),
                    LoadKind.Alias => activation.Get(entry.Outer),
                    _ => Missing.Value,
                };
            }
        }
    }

    public void Leave(Activation activation)
    {
        foreach (var entry in entries)
        {
            activation.Slots[entry.Index] = Missing.Value;
        }
    }

    private readonly record struct Entry(int Index, LoadKind Kind, string Name, Slot Outer);
}
