namespace OpenWeights.Tokenizers.Templates.Scoping;

/// <summary>A variable of a template's text: its name, at the depth of the scope that introduced it.</summary>
internal readonly record struct Identifier(int Level, string Name);

/// <summary>Where a variable lives when the template runs: how many functions outwards, and its place there.</summary>
internal readonly record struct Slot(int Hops, int Index);

/// <summary>How a scope's variable gets its first value.</summary>
internal enum LoadKind
{
    /// <summary>From whoever enters the scope: a loop's target, a macro's parameter.</summary>
    Parameter,

    /// <summary>From the variables of the render.</summary>
    Resolve,

    /// <summary>From the variable of the same name of an outer scope.</summary>
    Alias,

    /// <summary>It has none until it is set.</summary>
    Undefined,
}

/// <summary>The first value of a scope's variable.</summary>
internal readonly record struct Load(LoadKind Kind, Identifier Outer = default);
