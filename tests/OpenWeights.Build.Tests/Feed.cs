using System.IO.Compression;
using System.Security;

namespace OpenWeights.Build.Tests;

/// <summary>A folder of packages made for a test, and a project that is built with the checkout's own settings from these packages alone.</summary>
internal sealed class Feed(string root)
{
    private readonly string _settings = Testing.SharedFiles.Root;

    public string Project => Path.Combine(root, "probe");

    public string PackageFolder => Path.Combine(root, "packages");

    /// <summary>Writes a package with the files given as text or as paths of files to take.</summary>
    public void Add(string name, string version, (string Name, string Version)[] needs, params (string Path, string Text)[] files)
    {
        Directory.CreateDirectory(Path.Combine(root, "feed"));
        using var archive = ZipFile.Open(Path.Combine(root, "feed", $"{name}.{version}.nupkg"), ZipArchiveMode.Create);
        var dependencies = string.Concat(needs.Select(static n => $"""<dependency id="{n.Name}" version="{n.Version}" include="All" />"""));
        Write(archive, $"{name}.nuspec", $"""
            <?xml version="1.0" encoding="utf-8"?>
            <package xmlns="http://schemas.microsoft.com/packaging/2013/05/nuspec.xsd">
              <metadata><id>{name}</id><version>{version}</version><authors>tests</authors><description>{SecurityElement.Escape(name)}</description>
                <dependencies><group targetFramework="netstandard2.0">{dependencies}</group></dependencies>
              </metadata>
            </package>
            """);
        foreach (var (path, text) in files)
        {
            if (File.Exists(text))
            {
                archive.CreateEntryFromFile(text, path, CompressionLevel.Fastest);
            }
            else
            {
                Write(archive, path, text);
            }
        }

        if (!files.Any(static f => f.Path.StartsWith("lib/", StringComparison.Ordinal)))
        {
            Write(archive, "lib/netstandard2.0/_._", "");
        }
    }

    /// <summary>Builds a program that takes torch along.</summary>
    public (bool Succeeded, string Output) Run(string command, params string[] arguments)
    {
        Directory.CreateDirectory(Project);
        File.WriteAllText(Path.Combine(root, "NuGet.Config"), """<configuration><packageSources><clear /><add key="feed" value="feed" /></packageSources></configuration>""");
        File.WriteAllText(Path.Combine(Project, "Program.cs"), "return 0;");
        File.WriteAllText(Path.Combine(Project, "probe.csproj"), """
            <Project Sdk="Microsoft.NET.Sdk">
              <PropertyGroup><OutputType>Exe</OutputType><UsesTorch>program</UsesTorch><UseAppHost>false</UseAppHost><SelfContained>false</SelfContained></PropertyGroup>
              <!-- What every project of the checkout refers to is not in the feed; what torch needs is added after this. -->
              <ItemGroup><PackageReference Remove="@(PackageReference)" /><GlobalPackageReference Remove="@(GlobalPackageReference)" /></ItemGroup>
            </Project>
            """);
        return Tools.Run(Environment.ProcessPath!, Project, [("NUGET_PACKAGES", PackageFolder)],
            [command, "-nologo", "-nodeReuse:false", "-p:UseSharedCompilation=false", "-p:RunAnalyzers=false", "-p:EnforceCodeStyleInBuild=false",
            $"-p:DirectoryBuildPropsPath={_settings}/Directory.Build.props", $"-p:DirectoryBuildTargetsPath={_settings}/Directory.Build.targets",
            $"-p:DirectoryPackagesPropsPath={_settings}/Directory.Packages.props", $"-p:NativeStore={Path.Combine(root, "store")}/", .. arguments]);
    }

    private static void Write(ZipArchive archive, string path, string text)
    {
        using var writer = new StreamWriter(archive.CreateEntry(path).Open());
        writer.Write(text);
    }
}
