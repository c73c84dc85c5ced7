using System.Reflection;
using NUnit.Framework;

namespace OpenWeights.Build.Tests;

/// <summary>The published packages whose files are read, as this project has restored them.</summary>
internal static class Packages
{
    /// <summary>The folder of the restored packages.</summary>
    public static string Folder => Value("Packages");

    public static string TorchSharpVersion => Value("TorchSharp");

    public static string LibTorchVersion => Value("LibTorch");

    public static string TorchSharp(string platform, string file) => Native("torchsharp", Value("TorchSharp"), platform, file);

    public static string LibTorch(string platform, string file) => Native($"libtorch-cpu-{platform}", Value("LibTorch"), platform, file);

    /// <summary>TorchSharp's own library for Windows with the libraries of libtorch that it is loaded with.</summary>
    public static string[] Windows(string platform) =>
        [TorchSharp(platform, "LibTorchSharp.dll"), .. Directory.GetFiles(Path.GetDirectoryName(LibTorch(platform, "c10.dll"))!, "*.dll")];

    private static string Native(string package, string version, string platform, string file)
    {
        var path = Path.Combine(Value("Packages"), package, version, "runtimes", platform, "native", file);
        Assert.That(path, Does.Exist, "the package is restored with this project");
        return path;
    }

    private static string Value(string key) =>
        typeof(Packages).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(a => a.Key == key).Value!;
}
