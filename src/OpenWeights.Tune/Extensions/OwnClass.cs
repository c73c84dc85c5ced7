using System.Collections.Concurrent;
using System.Diagnostics;
using System.Reflection;
using System.Runtime.Loader;

namespace OpenWeights.Tune.Extensions;

/// <summary>
/// A class of the user's in the place of a built-in name: in settings it is the path of its assembly, then a colon and the class, such as
/// mine.dll:My.Schedule. The class may be left out where the assembly has one alone that fits.
/// </summary>
internal static class OwnClass
{
    private const string Ending = ".dll";

    private static readonly ConcurrentDictionary<string, Assembly> s_loaded = new();

    /// <summary>How one is written, for messages.</summary>
    internal const string Written = "FILE.dll:CLASS for a class of your own";

    /// <summary>Whether a name is that of a class of the user's.</summary>
    /// <param name="name">The name.</param>
    internal static bool Is(string? name) => name is not null && Split(name) is not null;

    /// <summary>The assembly and the class of a name; null for a built-in name.</summary>
    /// <param name="name">The name.</param>
    internal static (string Assembly, string? Class)? Split(string name)
    {
        var at = name.IndexOf(Ending + ":", StringComparison.OrdinalIgnoreCase);
        return at > 0 ? (name[..(at + Ending.Length)], name[(at + Ending.Length + 1)..])
            : name.Length > Ending.Length && name.EndsWith(Ending, StringComparison.OrdinalIgnoreCase) ? (name, null)
            : null;
    }

    /// <summary>A name with another path of its assembly.</summary>
    /// <param name="name">The name.</param>
    /// <param name="path">Gives the path; a built-in name stays as it is.</param>
    internal static string WithPath(string name, Func<string, string> path) => Split(name) is var (assembly, type) ? type is null ? path(assembly) : $"{path(assembly)}:{type}" : name;

    /// <summary>The name of an object's class, by which settings that are written down name it.</summary>
    /// <param name="own">The object.</param>
    internal static string NameOf(object own)
    {
        // An assembly in a single file has no path; its name then says at least what it was.
        var assembly = own.GetType().Assembly;
        var path = assembly.Location.Length > 0 ? assembly.Location : assembly.GetName().Name + Ending;
        return $"{path}:{own.GetType().FullName}";
    }

    /// <summary>The class's name without its namespace, or that of its assembly; a built-in name as it is.</summary>
    /// <param name="name">The name.</param>
    internal static string ShortName(string name) => Split(name) is not var (assembly, type) ? name
        : type is null ? Path.GetFileNameWithoutExtension(assembly)
        : type[(type.LastIndexOfAny(['.', '+']) + 1)..];

    /// <summary>Creates a class.</summary>
    /// <typeparam name="T">What it must be.</typeparam>
    /// <param name="name">Its name.</param>
    /// <param name="settings">The section that names it, which is given to a constructor that takes one.</param>
    /// <exception cref="InvalidDataException">The assembly has no such class, or it cannot be created.</exception>
    /// <exception cref="FileNotFoundException">There is no such assembly.</exception>
    internal static T Create<T>(string name, object settings)
        where T : class
    {
        var (assembly, named) = Split(name)!.Value;
        return Create<T>(assembly, named, settings);
    }

    /// <summary>Creates a class.</summary>
    /// <typeparam name="T">What it must be.</typeparam>
    /// <param name="assembly">Path of its assembly.</param>
    /// <param name="name">Its full name, or its name alone; null where the assembly has one alone that fits.</param>
    /// <param name="settings">The section that names it, which is given to a constructor that takes one.</param>
    internal static T Create<T>(string assembly, string? name, object settings)
        where T : class
    {
        var path = Path.GetFullPath(assembly);
        if (!File.Exists(path))
        {
            throw new FileNotFoundException($"{path}: there is no such file, in which {(name is null ? "a class" : $"the class {name}")} is looked for that {Needed<T>()}.");
        }

        var type = Find<T>(s_loaded.GetOrAdd(path, Load), path, name);
        try
        {
            return (T)(type.GetConstructor([settings.GetType()]) is { } withSettings ? withSettings.Invoke([settings])
                : type.GetConstructor([]) is { } plain ? plain.Invoke([])
                : throw new InvalidDataException($"{path}: {type.FullName} has no public constructor without parameters, or with a {settings.GetType().Name} alone; add one."));
        }
        catch (TargetInvocationException e)
        {
            throw new InvalidDataException($"{path}: {type.FullName} cannot be created: {e.InnerException?.Message}", e.InnerException);
        }
    }

    /// <summary>The class named in settings whose code an exception comes from, directly or by a library that it called; null for none.</summary>
    /// <param name="thrown">The exception.</param>
    internal static Type? Thrower(Exception thrown)
    {
        foreach (var frame in new StackTrace(thrown).GetFrames())
        {
            if (frame.GetMethod()?.DeclaringType is { } type)
            {
                if (s_loaded.Values.Contains(type.Assembly))
                {
                    return type;
                }

                if (type.Assembly.GetName().Name is { } name && (name == "owt" || name.StartsWith("OpenWeights.Tune", StringComparison.Ordinal)))
                {
                    return null;
                }
            }
        }

        return null;
    }

    // Its dependencies lie beside it; this library is the one that runs.
    private static Assembly Load(string path)
    {
        try
        {
            var context = AssemblyLoadContext.GetLoadContext(typeof(OwnClass).Assembly)!;
            var resolver = new AssemblyDependencyResolver(path);
            context.Resolving += (loading, name) => resolver.ResolveAssemblyToPath(name) is { } found ? loading.LoadFromAssemblyPath(found) : null;
            return context.LoadFromAssemblyPath(path);
        }
        catch (Exception e) when (e is BadImageFormatException or FileLoadException)
        {
            throw new InvalidDataException($"{path}: this is not an assembly that can be loaded: {e.Message}", e);
        }
    }

    private static Type Find<T>(Assembly assembly, string path, string? name)
    {
        Type[] types;
        try
        {
            types = [.. assembly.GetExportedTypes().Where(static t => typeof(T).IsAssignableFrom(t) && t is { IsAbstract: false, IsClass: true })];
        }
        catch (Exception e) when (e is TypeLoadException or FileNotFoundException)
        {
            throw new InvalidDataException($"{path}: a type of this assembly cannot be loaded: {e.Message}", e);
        }

        var found = name is null ? types : [.. types.Where(t => t.FullName == name || t.Name == name)];
        return found is [var one] ? one : throw new InvalidDataException(
            $"{path}: {(name is null ? $"{found.Length} public classes {Needed<T>(found.Length)}" : $"no single public class {name} {Needed<T>()}")}{(types.Length > 0 ? $"; there {(types.Length == 1 ? "is" : "are")} {string.Join(", ", types.Select(static t => t.FullName))}" : "")}. Name one behind the file, as FILE.dll:CLASS.");
    }

    private static string Needed<T>(int count = 1) => $"{(typeof(T).IsInterface ? "implement" : "derive")}{(count == 1 ? "s" : "")}{(typeof(T).IsInterface ? "" : " from")} {typeof(T).Name}";
}
