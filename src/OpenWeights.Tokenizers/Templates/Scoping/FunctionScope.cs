namespace OpenWeights.Tokenizers.Templates.Scoping;

/// <summary>
/// A part of a template that runs with variables of its own: the template, a macro, a recursive loop, a loop's filter. It sees the
/// variables of the parts around it as they are when it runs.
/// </summary>
internal sealed class FunctionScope(FunctionScope? parent, int level)
{
    private readonly Dictionary<Identifier, int> slots = [];

    /// <summary>How many variables it has; final when all of its text is bound.</summary>
    public int SlotCount => slots.Count;

    /// <summary>Where a variable is found from inside this function.</summary>
    public Slot Locate(Identifier identifier)
    {
        var (scope, hops) = (this, 0);
        while (identifier.Level < scope.Level && scope.Parent is not null)
        {
            (scope, hops) = (scope.Parent, hops + 1);
        }

        if (!scope.slots.TryGetValue(identifier, out var index))
        {
            index = scope.slots.Count;
            scope.slots.Add(identifier, index);
        }

        return new Slot(hops, index);
    }

    private FunctionScope? Parent { get; } = parent;

    /// <summary>The depth of its outermost scope.</summary>
    private int Level { get; } = level;
}
