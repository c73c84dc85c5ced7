using System.IO.Compression;
using System.Runtime.InteropServices;
using System.Xml.Linq;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Build.Tests;

/// <summary>The packages that scripts/pack makes, in a folder of their own: what is in them, and that they work for one who has nothing else.</summary>
public sealed class PackageTests
{
    private const string Version = "0.0.1-test";
    private static readonly string[] s_libraries = ["Formats", "Hub", "Tokenizers", "Tokenizers.MicrosoftML", "Tune", "Tune.MicrosoftAI"];
    private readonly TemporaryFolder _folder = new();
    private readonly string _platform = $"{(OperatingSystem.IsMacOS() ? "osx" : "linux")}-{RuntimeInformation.OSArchitecture.ToString().ToLowerInvariant()}";

    private string FeedPath => _folder.At("feed");

    // Settings of NuGet that know the packages made here; others are those of this checkout's build, or none.
    private string Settings(bool alone) => _folder.Write(alone ? "alone.config" : "NuGet.Config", $"""
        <configuration>
          <packageSources>{(alone ? "<clear />" : "")}<add key="made-here" value="{FeedPath}" /></packageSources>
          <fallbackPackageFolders><clear />{(alone ? "" : $"<add key=\"restored\" value=\"{Packages.Folder}\" />")}</fallbackPackageFolders>
        </configuration>
        """);

    [OneTimeSetUp]
    public void Pack()
    {
        if (OperatingSystem.IsWindows() || _platform is not ("linux-x64" or "osx-arm64"))
        {
            Assert.Ignore($"scripts/pack makes no package for this platform, {RuntimeInformation.RuntimeIdentifier}");
        }

        var (succeeded, output) = Tools.Run("sh", SharedFiles.Root, [("PACK_PROPERTIES", $"-p:MinVerVersionOverride={Version} -nodeReuse:false -p:UseSharedCompilation=false -p:RunAnalyzers=false")], Path.Combine("scripts", "pack"), FeedPath, _platform);
        Assert.That(succeeded, output);
    }

    [OneTimeTearDown]
    public void Free() => _folder.Dispose();

    [Test]
    public void A_package_says_what_it_is_and_has_its_documents_and_symbols([ValueSource(nameof(s_libraries))] string library)
    {
        var name = $"OpenWeights.{library}";
        using var package = ZipFile.OpenRead(Path.Combine(FeedPath, $"{name}.{Version}.nupkg"));
        string[] names = [.. package.Entries.Select(static e => e.FullName)];
        Assert.That(names, Is.SupersetOf(new[] { "README.md", "icon.png", "LICENSE", $"lib/net10.0/{name}.dll", $"lib/net10.0/{name}.xml" }));
        Assert.That(names.Where(static n => n.EndsWith(".so", StringComparison.Ordinal) || n.EndsWith(".dylib", StringComparison.Ordinal)), Is.Empty);

        var described = Nuspec(package).Descendants().Where(static e => !e.HasElements).GroupBy(static e => e.Name.LocalName).ToDictionary(static g => g.Key, static g => g.First().Value);
        Assert.That(described["license"], Is.EqualTo("Apache-2.0"));
        Assert.That(described["icon"], Is.EqualTo("icon.png"));
        Assert.That(described["readme"], Is.EqualTo("README.md"));
        Assert.That(described["description"], Does.Not.StartWith("Package Description").And.Length.GreaterThan(40));

        using var symbols = ZipFile.OpenRead(Path.Combine(FeedPath, $"{name}.{Version}.snupkg"));
        Assert.That(symbols.Entries.Select(static e => e.FullName), Has.Member($"lib/net10.0/{name}.pdb"));
    }

    [Test]
    public void The_library_asks_for_TorchSharp_and_leaves_libtorch_to_the_program()
    {
        using var package = ZipFile.OpenRead(Path.Combine(FeedPath, $"OpenWeights.Tune.{Version}.nupkg"));
        var needs = Nuspec(package).Descendants().Where(static e => e.Name.LocalName == "dependency").ToDictionary(static e => e.Attribute("id")!.Value, static e => e.Attribute("version")!.Value);
        Assert.That(needs["TorchSharp"], Is.EqualTo(Packages.TorchSharpVersion));
        Assert.That(needs["OpenWeights.Formats"], Is.EqualTo(Version));
        Assert.That(needs.Keys.Where(static k => k.StartsWith("libtorch", StringComparison.OrdinalIgnoreCase)), Is.Empty);
    }

    [Test]
    public void The_tool_installs_from_a_folder_alone_and_trains()
    {
        var (succeeded, output) = Dotnet("tool", "install", "OpenWeights.Tune.Cli", "--version", Version, "--tool-path", _folder.At("tools"), "--configfile", Settings(alone: true));
        Assert.That(succeeded, output);
        Assert.That(Owt("--version"), Does.StartWith(Version));
        Assert.That(Owt("completion", "bash"), Does.Contain("complete -o default -F _owt owt"));

        _ = Owt("train", Path.Combine(SharedFiles.Root, "configs", "quickstart.yaml"), $"output_dir={_folder.At("run")}", "training.max_steps=3", "evaluation.generate_rows=0");
        Assert.That(File.Exists(_folder.At("run", "adapter", "adapter_model.safetensors")));
        Assert.That(Owt("doctor"), Does.Contain(_folder.At("tools")), "the libtorch of the tool");
        if (OperatingSystem.IsLinux())
        {
            // Whatever lies beside the program TorchSharp would load too.
            var own = Directory.GetFiles(_folder.At("tools"), "libtorch_cpu.so", SearchOption.AllDirectories).Single();
            Assert.That(Path.GetFileName(Path.GetDirectoryName(own)), Is.EqualTo("libtorch"));
            Directory.Move(Path.GetDirectoryName(own)!, _folder.At("another libtorch"));
            var (answered, doctor) = Tools.Run(_folder.At("tools", "owt"), _folder.Root, [.. Bare, ("OWT_LIBTORCH", _folder.At("another libtorch"))], "doctor");
            Assert.That(answered, doctor);
            Assert.That(doctor, Does.Contain(_folder.At("another libtorch")));
        }
    }

    [Test]
    public void A_program_trains_with_the_packages()
    {
        _ = Settings(alone: false);
        // The first program of docs/library.md.
        _ = _folder.Write("program/Program.cs", """
            using OpenWeights.Tune;
            using OpenWeights.Tune.Configuration;
            using OpenWeights.Tune.Decoding;
            using OpenWeights.Tune.Training;

            using var model = LanguageModel.Load(args[0]).AddAdapter(new AdapterSection { Rank = 4 });
            var settings = new RunConfig { Training = new TrainingSection { MaxSteps = 2, LearningRate = 1e-3 } };
            var result = await model.TrainAsync(Rows(), settings, new Told());
            Console.WriteLine($"after {result?.LastStep} steps: {model.Generate("Number 3?", new GenerationOptions { MaxNewTokens = 8 })}");
            model.SaveAdapter(args[1]);

            static async IAsyncEnumerable<TrainingRow> Rows()
            {
                for (var i = 0; i < 8; i++)
                {
                    await Task.Yield();
                    yield return TrainingRow.Chat(ChatTurn.User($"Number {i}?"), ChatTurn.Assistant($"It is {i}."));
                }
            }

            sealed class Told : IProgress<StepMetrics>
            {
                public void Report(StepMetrics value) => Console.WriteLine($"step {value.Step}: loss {value.Loss:F3}");
            }
            """);
        _ = _folder.Write("program/program.csproj", $"""
            <Project Sdk="Microsoft.NET.Sdk">
              <PropertyGroup>
                <OutputType>Exe</OutputType><TargetFramework>net10.0</TargetFramework><ImplicitUsings>enable</ImplicitUsings><Nullable>enable</Nullable>
                <NuGetAudit>false</NuGetAudit><UseSharedCompilation>false</UseSharedCompilation>
              </PropertyGroup>
              <ItemGroup>
                <PackageReference Include="OpenWeights.Tune" Version="{Version}" />
                <PackageReference Include="libtorch-cpu-{_platform}" Version="{Packages.LibTorchVersion}" />
              </ItemGroup>
            </Project>
            """);
        var (succeeded, output) = Dotnet("build", _folder.At("program"), "-c", "Release", "-nologo", "-nodeReuse:false", "-o", _folder.At("built"));
        Assert.That(succeeded, output);
        (succeeded, output) = Dotnet(_folder.At("built", "program.dll"), Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base"), _folder.At("adapter"));
        Assert.That(succeeded, output);
        Assert.That(output, Does.Contain("step 1: loss ").And.Contain("after 2 steps: "));
        Assert.That(File.Exists(_folder.At("adapter", "adapter_config.json")));
    }

    [Test]
    public void The_sample_of_one_file_trains_with_the_packages()
    {
        _ = Settings(alone: false);
        // The packages that were made here, and the libtorch that is restored for this checkout: TorchSharp-cpu is that one, for every platform.
        var sample = File.ReadAllText(Path.Combine(SharedFiles.Root, "samples", "file-based", "app.cs"));
        var app = sample.Replace("@*-*", $"@{Version}", StringComparison.Ordinal)
            .Replace($"TorchSharp-cpu@{Packages.TorchSharpVersion}", $"libtorch-cpu-{_platform}@{Packages.LibTorchVersion}", StringComparison.Ordinal);
        Assert.That(app.Split('\n').Count(static l => l.StartsWith("#:package", StringComparison.Ordinal) && (l.Contains(Version, StringComparison.Ordinal) || l.Contains("libtorch", StringComparison.Ordinal))), Is.EqualTo(2), app);
        var (succeeded, output) = Dotnet("run", _folder.Write("file/app.cs", app), "--", Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base"));
        Assert.That(succeeded, output);
        Assert.That(output, Does.Contain("after 20 steps: The rake"));
    }

    // As on a machine where nothing was restored before.
    private (string Name, string Value)[] Bare =>
    [
        ("NUGET_PACKAGES", _folder.At("restored")), ("DOTNET_CLI_HOME", _folder.At("home")), ("HOME", _folder.At("home")), ("DOTNET_ROOT", Path.GetDirectoryName(Environment.ProcessPath)!),
        ("DOTNET_CLI_TELEMETRY_OPTOUT", "1"), ("DOTNET_NOLOGO", "1"), ("LIBTORCH", ""), ("OWT_TORCH", ""),
    ];

    private (bool Succeeded, string Output) Dotnet(params string[] arguments) => Tools.Run(Environment.ProcessPath!, _folder.Root, Bare, arguments);

    private string Owt(params string[] arguments)
    {
        var (succeeded, output) = Tools.Run(_folder.At("tools", "owt"), _folder.Root, Bare, arguments);
        Assert.That(succeeded, output);
        return output;
    }

    private static XDocument Nuspec(ZipArchive package)
    {
        using var stream = package.Entries.Single(static e => e.FullName.EndsWith(".nuspec", StringComparison.Ordinal)).Open();
        return XDocument.Load(stream);
    }
}
