using System.IO.Compression;
using System.Reflection.Metadata;
using System.Text.Json.Nodes;
using System.Xml.Linq;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Build.Tests;

/// <summary>A debugger finds a package's sources where they are published: of a small checkout made for the test, with and without such a place.</summary>
[Platform(Exclude = "Win", Reason = "git writes files that cannot be deleted there as others are")]
public sealed class SourceLinkTests
{
    private const string Project = "OpenWeights.Hub";
    private static readonly Guid s_sourceLink = new("CC110556-A091-4D38-9FEC-25AB9A351A6A");
    private TemporaryFolder _folder = null!;

    [SetUp]
    public void Make() => _folder = new TemporaryFolder();

    [TearDown]
    public void Free() => _folder.Dispose();

    [Test]
    public void Symbols_lead_to_the_published_sources_of_the_commit()
    {
        var (package, symbols, commit) = Pack("https://github.com/example/openweights-tune.git");
        Assert.Multiple(() =>
        {
            Assert.That(package.Attribute("type")?.Value, Is.EqualTo("git"));
            Assert.That(package.Attribute("url")?.Value, Does.StartWith("https://github.com/example/openweights-tune"));
            Assert.That(package.Attribute("commit")?.Value, Is.EqualTo(commit));
            Assert.That(symbols.Links, Is.EqualTo(new Dictionary<string, string> { ["/_/*"] = $"https://raw.githubusercontent.com/example/openweights-tune/{commit}/*" }));
            Assert.That(symbols.Sources, Has.Member($"/_/src/{Project}/HubDownload.cs"));
        });
    }

    [Test]
    public void A_checkout_that_is_published_nowhere_is_packed_without_a_link_and_without_a_warning()
    {
        var (package, symbols, _) = Pack(null);
        Assert.Multiple(() =>
        {
            Assert.That(package.Attribute("url"), Is.Null);
            Assert.That(symbols.Links, Is.Empty);
            Assert.That(symbols.Sources.Where(s => s.Contains(_folder.Root, StringComparison.Ordinal)), Is.Empty, "folders of this machine are nobody's matter");
        });
    }

    private (XElement Repository, (Dictionary<string, string> Links, string[] Sources) Symbols, string Commit) Pack(string? remote)
    {
        foreach (var file in new[] { "Directory.Build.props", "Directory.Build.targets", "Directory.Packages.props", "global.json", "LICENSE", ".editorconfig" })
        {
            File.Copy(Path.Combine(SharedFiles.Root, file), _folder.At(file));
        }

        Copy("build");
        Copy(Path.Combine("src", Project));
        var commit = "";
        foreach (var arguments in (string[][])[["init", "-q"], ["add", "."], ["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "-m", "t"], .. remote is null ? (string[][])[] : [["remote", "add", "origin", remote]], ["rev-parse", "HEAD"]])
        {
            commit = Git(arguments).Trim();
        }

        var (succeeded, output) = Tools.Dotnet(_folder.Root, "pack", Path.Combine("src", Project), "-c", "Release", "-nologo", "-p:TorchRuntime=cpu", "-p:BuildFlavor=-pack", "-p:MinVerVersionOverride=1.0.0",
            $"-p:PackageOutputPath={_folder.At("out")}", "-nodeReuse:false", "-p:UseSharedCompilation=false", "-p:RunAnalyzers=false");
        Assert.That(succeeded, output);
        Assert.That(output, Does.Not.Contain("warning"));
        using var package = ZipFile.OpenRead(_folder.At("out", $"{Project}.1.0.0.nupkg"));
        using var nuspec = package.GetEntry($"{Project}.nuspec")!.Open();
        var repository = XDocument.Load(nuspec).Descendants().Single(static e => e.Name.LocalName == "repository");
        using var symbols = ZipFile.OpenRead(_folder.At("out", $"{Project}.1.0.0.snupkg"));
        return (repository, Read(symbols.GetEntry($"lib/net10.0/{Project}.pdb")!), commit);
    }

    private static (Dictionary<string, string> Links, string[] Sources) Read(ZipArchiveEntry symbols)
    {
        using var stream = symbols.Open();
        using var bytes = new MemoryStream();
        stream.CopyTo(bytes);
        bytes.Position = 0;
        using var provider = MetadataReaderProvider.FromPortablePdbStream(bytes);
        var reader = provider.GetMetadataReader();
        var links = reader.CustomDebugInformation.Select(reader.GetCustomDebugInformation).Where(i => reader.GetGuid(i.Kind) == s_sourceLink)
            .SelectMany(i => JsonNode.Parse(reader.GetBlobBytes(i.Value))!["documents"]?.AsObject() ?? []).ToDictionary(static p => p.Key, static p => p.Value!.ToString());
        return (links, [.. reader.Documents.Select(d => reader.GetString(reader.GetDocument(d).Name))]);
    }

    private string Git(params string[] arguments)
    {
        try
        {
            var (succeeded, output) = Tools.Run("git", _folder.Root, arguments);
            Assert.That(succeeded, output);
            return output;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            Assert.Ignore("needs git, which this machine does not have");
            return "";
        }
    }

    private void Copy(string folder)
    {
        foreach (var file in Directory.EnumerateFiles(Path.Combine(SharedFiles.Root, folder)))
        {
            Directory.CreateDirectory(_folder.At(folder));
            File.Copy(file, _folder.At(folder, Path.GetFileName(file)));
        }
    }
}
