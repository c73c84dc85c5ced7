using System.Reflection;
using System.Runtime.Loader;
using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Rewards;

/// <summary>Makes a reward from a class of another assembly.</summary>
internal static class ClassReward
{
    /// <summary>Creates the class.</summary>
    /// <param name="section">Names the assembly and the class.</param>
    /// <exception cref="InvalidDataException">The assembly has no such class, or it cannot be created.</exception>
    /// <exception cref="FileNotFoundException">There is no such assembly.</exception>
    internal static IReward Create(RewardSection section)
    {
        var path = Path.GetFullPath(section.Assembly!);
        if (!File.Exists(path))
        {
            throw new FileNotFoundException($"{path}: there is no such file (the assembly of the reward {section.MetricName}).");
        }

        var type = Find(Load(path), path, section.Class);
        try
        {
            return (IReward)(type.GetConstructor([typeof(RewardSection)]) is { } withSettings ? withSettings.Invoke([section])
                : type.GetConstructor([]) is { } plain ? plain.Invoke([])
                : throw new InvalidDataException($"{path}: {type.FullName} has no public constructor without parameters, or with a RewardSection alone; add one."));
        }
        catch (TargetInvocationException e)
        {
            throw new InvalidDataException($"{path}: {type.FullName} cannot be created: {e.InnerException?.Message}", e.InnerException);
        }
    }

    // Its dependencies lie beside it; this library is the one that runs.
    private static Assembly Load(string path)
    {
        try
        {
            var own = typeof(IReward).Assembly;
            var context = AssemblyLoadContext.GetLoadContext(own)!;
            var resolver = new AssemblyDependencyResolver(path);
            context.Resolving += (loading, name) => resolver.ResolveAssemblyToPath(name) is { } found ? loading.LoadFromAssemblyPath(found) : null;
            return context.LoadFromAssemblyPath(path);
        }
        catch (Exception e) when (e is BadImageFormatException or FileLoadException)
        {
            throw new InvalidDataException($"{path}: this is not an assembly that can be loaded: {e.Message}", e);
        }
    }

    private static Type Find(Assembly assembly, string path, string? name)
    {
        Type[] types;
        try
        {
            types = [.. assembly.GetExportedTypes().Where(static t => typeof(IReward).IsAssignableFrom(t) && t is { IsAbstract: false, IsClass: true })];
        }
        catch (Exception e) when (e is TypeLoadException or FileNotFoundException)
        {
            throw new InvalidDataException($"{path}: a type of this assembly cannot be loaded: {e.Message}", e);
        }

        var found = name is null ? types : [.. types.Where(t => t.FullName == name || t.Name == name)];
        return found is [var one] ? one : throw new InvalidDataException(
            $"{path}: {(name is null ? $"{found.Length} public classes implement IReward" : $"no single public class {name} implements IReward")}{(types.Length > 0 ? $"; there {(types.Length == 1 ? "is" : "are")} {string.Join(", ", types.Select(static t => t.FullName))}" : "")}. Name one with the reward's class.");
    }
}
