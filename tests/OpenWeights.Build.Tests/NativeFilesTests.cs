using System.Text.Json;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Build.Tests;

/// <summary>Which packages a program takes torch from, and which of their files come where.</summary>
internal sealed class NativeFilesTests
{
    private const string CudaHead = "libtorch-cuda-12.8-linux-x64";

    [TestCase("cpu", "linux-x64", "libtorch-cpu-linux-x64")]
    [TestCase("cpu", "win-x64", "libtorch-cpu-win-x64")]
    [TestCase("cpu", "win-arm64", "libtorch-cpu-win-arm64")]
    [TestCase("cpu", "osx-arm64", "libtorch-cpu-osx-arm64")]
    [TestCase("cuda", "linux-x64", "TorchSharp-cuda-linux")]
    [TestCase("cuda", "win-x64", "TorchSharp-cuda-windows")]
    public void A_program_refers_to_TorchSharp_and_the_package_with_libtorch_for_its_platform_alone(string runtime, string platform, string package)
    {
        var references = Evaluate("PackageReference", runtime, platform);
        var versions = Evaluate("PackageVersion", runtime, platform, "-p:TorchSharpVersion=1.2.3", "-p:LibTorchVersion=4.5.6");
        Assert.Multiple(() =>
        {
            Assert.That(references.Keys.Where(static n => n.Contains("torch", StringComparison.OrdinalIgnoreCase)), Is.EquivalentTo(new[] { "TorchSharp", package }));
            Assert.That(versions["TorchSharp"], Is.EqualTo("1.2.3"));
            Assert.That(versions[package], Is.EqualTo(runtime == "cuda" ? "1.2.3" : "4.5.6"));
        });
    }

    [Test]
    public void A_platform_without_such_a_package_is_told_so_in_one_sentence()
    {
        var (succeeded, output) = Tools.Dotnet(SharedFiles.Root, "msbuild", "src/OpenWeights.Tune.Cli", "-nologo", "-t:CheckTorchPackage", "-p:TorchRuntime=cpu", "-p:RuntimeIdentifier=linux-arm64");
        Assert.Multiple(() =>
        {
            Assert.That(succeeded, Is.False);
            Assert.That(output, Does.Contain("TorchSharp has no package with libtorch (cpu) for linux-arm64; use an installed libtorch or PyTorch: -p:TorchRuntime=system"));
        });
    }

    [Test]
    [Platform("Linux")]
    public void A_program_for_CUDA_has_the_files_that_its_packages_were_put_together_to_with_TorchSharps_library_made_loadable()
    {
        using var folder = new TemporaryFolder();
        var feed = new Feed(folder.Root);
        var library = Packages.TorchSharp("linux-x64", "libLibTorchSharp.so");
        feed.Add("TorchSharp", "0.107.0", [], ("runtimes/linux-x64/native/libLibTorchSharp.so", library), ("runtimes/win-x64/native/LibTorchSharp.dll", "for Windows"));
        feed.Add("TorchSharp-cuda-linux", "0.107.0", [("TorchSharp", "0.107.0"), (CudaHead, "2.10.0")]);
        feed.Add(CudaHead, "2.10.0", [($"{CudaHead}-part1-primary", "2.10.0"), ($"{CudaHead}-part1-fragment1", "2.10.0")],
            ($"buildTransitive/netstandard2.0/{CudaHead}.props", "<Project><PropertyGroup><TorchSharpCudaPackage>true</TorchSharpCudaPackage></PropertyGroup></Project>"));
        // As TorchSharp's packages do it: a large file comes in parts, and the first build puts them together in the package's folder.
        feed.Add($"{CudaHead}-part1-primary", "2.10.0", [], ("runtimes/linux-x64/native/libtorch_cuda.so", "first half, "), ("runtimes/linux-x64/native/libtorch_python.so", "for Python"),
            ($"buildTransitive/netstandard2.0/{CudaHead}-part1-primary.targets", """
            <Project>
              <Target Name="FileRestitch" AfterTargets="ResolveReferences" BeforeTargets="PrepareForBuild">
                <PropertyGroup>
                  <Whole>$(MSBuildThisFileDirectory)../../runtimes/linux-x64/native/libtorch_cuda.so</Whole>
                  <Part>$(MSBuildThisFileDirectory)../../../../libtorch-cuda-12.8-linux-x64-part1-fragment1/2.10.0/fragments/libtorch_cuda.so.fragment1</Part>
                </PropertyGroup>
                <WriteLinesToFile File="$(Whole)" Lines="$([System.IO.File]::ReadAllText('$(Whole)'))$([System.IO.File]::ReadAllText('$(Part)'))" Overwrite="true" Condition="Exists('$(Part)')" />
                <Delete Files="$(Part)" />
              </Target>
            </Project>
            """));
        feed.Add($"{CudaHead}-part1-fragment1", "2.10.0", [], ("fragments/libtorch_cuda.so.fragment1", "second half"));

        var (built, output) = feed.Run("build", "-p:TorchRuntime=cuda", "-c", "Release");
        Assert.That(built, output);
        var (published, publishOutput) = feed.Run("publish", "-p:TorchRuntime=cuda", "-o", folder["published"]);
        Assert.That(published, publishOutput);

        var natives = Path.Combine(feed.Project, "bin", "cuda", "Release", "net10.0", "runtimes", "linux-x64", "native");
        using var file = File.OpenRead(Path.Combine(natives, "libLibTorchSharp.so"));
        Assert.Multiple(() =>
        {
            foreach (var place in new[] { natives, folder.At("published", "runtimes", "linux-x64", "native") })
            {
                Assert.That(Directory.GetFiles(place).Select(Path.GetFileName), Is.EquivalentTo(new[] { "libLibTorchSharp.so", "libtorch_cuda.so" }));
                Assert.That(File.ReadAllText(Path.Combine(place, "libtorch_cuda.so")).Trim(), Is.EqualTo("first half, second half"));
            }

            Assert.That(Directory.GetDirectories(folder.At("published", "runtimes")).Select(Path.GetFileName), Is.EqualTo(new[] { "linux-x64" }));
            Assert.That(Directory.GetFiles(folder["published"], "*.so", SearchOption.AllDirectories), Has.Length.EqualTo(2));
            Assert.That(ElfVersionNeeds.Read(file, "copy").Needs.Single(static n => n.Version == "GLIBCXX_3.4.32").IsWeak, Is.True);
            Assert.That(File.ReadAllBytes(Path.Combine(feed.PackageFolder, "torchsharp", "0.107.0", "runtimes", "linux-x64", "native", "libLibTorchSharp.so")), Is.EqualTo(File.ReadAllBytes(library)), "the package's own file");
            Assert.That(Tools.Run("stat", folder.Root, "-c", "%h", Path.Combine(natives, "libtorch_cuda.so")).Output.Trim(), Is.EqualTo("2"), "one file with two names: artifacts/native and the program's folder");
        });
    }

    [Test]
    public void Windows_libraries_that_do_not_fit_fail_the_build_with_what_is_missing_and_what_to_do()
    {
        using var folder = new TemporaryFolder();
        var feed = new Feed(folder.Root);
        feed.Add("TorchSharp", "0.107.0", [], ("runtimes/win-x64/native/LibTorchSharp.dll", Packages.TorchSharp("win-x64", "LibTorchSharp.dll")));
        // torch.dll exports next to nothing.
        feed.Add("libtorch-cpu-win-x64", "9.9.9", [], ("runtimes/win-x64/native/c10.dll", Packages.LibTorch("win-x64", "torch.dll")));

        var (succeeded, output) = feed.Run("build", "-p:TorchRuntime=cpu", "-r", "win-x64", "-p:LibTorchVersion=9.9.9");
        Assert.Multiple(() =>
        {
            Assert.That(succeeded, Is.False);
            Assert.That(output, Does.Match(@"LibTorchSharp\.dll of TorchSharp 0\.107\.0 does not load with libtorch-cpu-win-x64 9\.9\.9: c10\.dll has no 143 functions that it imports \(.*, \.\.\.\); name versions that fit, as with -p:TorchSharpVersion="));
        });
    }

    // The items of the command line program, by name, with their versions.
    private static Dictionary<string, string> Evaluate(string items, string runtime, string platform, params string[] properties)
    {
        var (succeeded, output) = Tools.Dotnet(SharedFiles.Root, ["msbuild", "src/OpenWeights.Tune.Cli", "-nologo", $"-getItem:{items}", $"-p:TorchRuntime={runtime}", $"-p:RuntimeIdentifier={platform}", .. properties]);
        Assert.That(succeeded, output);
        using var json = JsonDocument.Parse(output);
        return json.RootElement.GetProperty("Items").GetProperty(items).EnumerateArray()
            .ToDictionary(static i => i.GetProperty("Identity").GetString()!, static i => i.TryGetProperty("Version", out var version) ? version.GetString()! : "");
    }
}
