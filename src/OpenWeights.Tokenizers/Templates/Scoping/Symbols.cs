using System.Diagnostics;

namespace OpenWeights.Tokenizers.Templates.Scoping;

/// <summary>
/// The variables that one scope of a template reads and sets. Which scope a name belongs to is decided from the text, before anything
/// runs, by jinja2's rules (its idtracking): a loop's body, a macro, a block are scopes of their own, the branches of an if are not;
/// a name that a scope sets is its own, beginning with the outer value; a name that it only reads is the outer one's.
/// </summary>
internal sealed class Symbols
{
    private readonly Symbols? parent;
    private readonly Dictionary<string, Identifier> refs;
    private readonly HashSet<string> stores;

    public Symbols(Symbols? parent = null)
        : this(parent, parent is null ? 0 : parent.Level + 1, [], [], [])
    {
    }

    private Symbols(Symbols? parent, int level, Dictionary<string, Identifier> refs, Dictionary<Identifier, Load> loads, HashSet<string> stores)
    {
        this.parent = parent;
        this.refs = refs;
        this.stores = stores;
        Level = level;
        Loads = loads;
    }

    public int Level { get; }

    public Dictionary<Identifier, Load> Loads { get; }

    public Symbols Copy() => new(parent, Level, new(refs), new(Loads), [.. stores]);

    /// <summary>The variable that a name means here.</summary>
    public Identifier Ref(string name) => Find(name) ?? throw new UnreachableException($"the name {name} was not declared");

    /// <summary>Notes that the scope sets a name.</summary>
    public void Store(string name)
    {
        _ = stores.Add(name);
        if (!refs.ContainsKey(name))
        {
            Define(name, parent?.Find(name) is { } outer ? new Load(LoadKind.Alias, outer) : new Load(LoadKind.Undefined));
        }
    }

    /// <summary>Notes that whoever enters the scope sets a name.</summary>
    public void DeclareParameter(string name)
    {
        _ = stores.Add(name);
        Define(name, new Load(LoadKind.Parameter));
    }

    /// <summary>Notes that the scope reads a name.</summary>
    public void Read(string name)
    {
        if (Find(name) is null)
        {
            Define(name, new Load(LoadKind.Resolve));
        }
    }

    /// <summary>Takes over what the branches of an if do; what only some of them set begins with the outer value.</summary>
    public void Merge(ReadOnlySpan<Symbols> branches)
    {
        var stored = new HashSet<string>();
        foreach (var branch in branches)
        {
            stored.UnionWith(branch.stores);
        }

        stored.ExceptWith(stores);
        foreach (var branch in branches)
        {
            foreach (var (name, identifier) in branch.refs)
            {
                refs[name] = identifier;
            }

            foreach (var (identifier, load) in branch.Loads)
            {
                Loads[identifier] = load;
            }

            stores.UnionWith(branch.stores);
        }

        foreach (var name in stored)
        {
            Loads[Ref(name)] = parent?.Find(name) is { } outer ? new Load(LoadKind.Alias, outer) : new Load(LoadKind.Resolve);
        }
    }

    private Identifier? Find(string name) =>
        refs.TryGetValue(name, out var identifier) ? identifier : parent?.Find(name);

    private void Define(string name, Load load)
    {
        var identifier = new Identifier(Level, name);
        refs[name] = identifier;
        Loads[identifier] = load;
    }
}

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
