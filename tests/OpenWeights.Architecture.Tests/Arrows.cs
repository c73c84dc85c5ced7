using ArchUnitNET.Domain;
using ArchUnitNET.Loader;
using Assembly = System.Reflection.Assembly;

namespace OpenWeights.Architecture.Tests;

/// <summary>Which part of the code knows which: a project is a part, and so is a room (a folder of OpenWeights.Tune), and a stage of Data.</summary>
internal sealed class Arrows
{
    private const string Library = "OpenWeights.Tune";

    // Each once, with types that show it.
    private readonly SortedDictionary<(string From, string To), SortedSet<string>> _projects = [];
    private readonly SortedDictionary<(string From, string To), SortedSet<string>> _rooms = [];

    private Arrows(ArchUnitNET.Domain.Architecture architecture, IReadOnlySet<string> projects)
    {
        foreach (var type in architecture.Types)
        {
            foreach (var target in type.Dependencies.Select(static d => d.Target).Where(t => t is not GenericParameter && t.FullName != type.FullName))
            {
                var (from, to) = (Project(type), Project(target));
                if (projects.Contains(from) && projects.Contains(to) && from != to)
                {
                    Add(_projects, from, to, type, target);
                }
                else if (from == Library && to == Library)
                {
                    AddRooms(type, target);
                }

                UsesConsole |= from == Library && target.FullName == "System.Console";
            }
        }
    }

    /// <summary>The arrows between projects, and between the rooms of OpenWeights.Tune, each with the types that make it.</summary>
    internal IReadOnlyDictionary<(string From, string To), SortedSet<string>> Projects => _projects;

    internal IReadOnlyDictionary<(string From, string To), SortedSet<string>> Rooms => _rooms;

    /// <summary>Whether anything in OpenWeights.Tune writes to the console.</summary>
    internal bool UsesConsole { get; }

    /// <summary>The arrows of the assemblies of this solution that lie beside the tests.</summary>
    internal static Arrows Read()
    {
        Assembly[] assemblies =
        [
            .. Directory.GetFiles(AppContext.BaseDirectory, "*.dll")
                .Where(static f => Path.GetFileNameWithoutExtension(f) is var name && (name == "owt" || (name.StartsWith("OpenWeights.", StringComparison.Ordinal) && !name.EndsWith(".Tests", StringComparison.Ordinal))))
                .Select(Assembly.LoadFrom),
        ];
        return new Arrows(new ArchLoader().LoadAssemblies(assemblies).Build(), assemblies.Select(static a => Named(a.GetName().Name!)).ToHashSet());
    }

    private void AddRooms(IType from, IType to)
    {
        var (fromRoom, toRoom) = (Room(from), Room(to));
        if (fromRoom is null || toRoom is null)
        {
            return;
        }

        if (fromRoom[0] != toRoom[0])
        {
            Add(_rooms, fromRoom[0], toRoom[0], from, to);
        }
        else if (fromRoom[0] == "Data" && fromRoom[^1] != toRoom[^1])
        {
            Add(_rooms, string.Join('/', fromRoom), string.Join('/', toRoom), from, to);
        }
    }

    private static void Add(SortedDictionary<(string From, string To), SortedSet<string>> arrows, string from, string to, IType type, IType target)
    {
        if (!arrows.TryGetValue((from, to), out var types))
        {
            arrows[(from, to)] = types = [];
        }

        _ = types.Add($"{type.Name} -> {target.Name}");
    }

    // The room of a type, of Data with its stage; null for what the compiler made outside of all.
    private static string[]? Room(IType type)
    {
        var name = type.Namespace?.FullName;
        return name is not null && name.StartsWith(Library + ".", StringComparison.Ordinal) ? [.. name[(Library.Length + 1)..].Split('.').Take(name.StartsWith(Library + ".Data", StringComparison.Ordinal) ? 2 : 1)] : null;
    }

    private static string Project(IType type) => Named(type.Assembly?.Name.Split(',')[0] ?? "");

    private static string Named(string assembly) => assembly == "owt" ? "OpenWeights.Tune.Cli" : assembly;
}
