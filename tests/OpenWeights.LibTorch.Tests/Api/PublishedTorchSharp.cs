using System.Reflection;
using System.Runtime.Loader;

namespace OpenWeights.LibTorch.Tests.Api;

/// <summary>TorchSharp as its package has it: the assembly that the library is written against, whichever runtime is built for.</summary>
internal static class PublishedTorchSharp
{
    /// <summary>The file of the assembly.</summary>
    internal static string Location { get; } = Find();

    /// <summary>Its version without the last number.</summary>
    internal static string Version { get; } = AssemblyName.GetAssemblyName(Location).Version!.ToString(3);

    private static readonly Lazy<Assembly> s_assembly = new(static () => new AssemblyLoadContext("TorchSharp as published").LoadFromAssemblyPath(Location));

    /// <summary>The type of the same name there, or null. Only its shape is looked at: it shares no libtorch with this process.</summary>
    internal static Type? Find(Type ours) => s_assembly.Value.GetType(ours.FullName!);

    // The build writes the package's path down where it refers to the package for this alone; else the package is what runs here.
    private static string Find()
    {
        const string written = "torchsharp.txt";
        var list = Path.Combine(AppContext.BaseDirectory, written);
        return File.Exists(list) ? File.ReadAllText(list).Trim() : typeof(TorchSharp.torch).Assembly.Location;
    }
}
