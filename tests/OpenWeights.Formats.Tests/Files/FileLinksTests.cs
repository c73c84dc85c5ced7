using NUnit.Framework;
using OpenWeights.Formats.Files;
using OpenWeights.Testing;

namespace OpenWeights.Formats.Tests.Files;

/// <summary>Symbolic links: what lies behind them counts.</summary>
[Platform(Exclude = "Win", Reason = "links need a right there")]
public sealed class FileLinksTests
{
    [Test]
    public void Size_and_time_are_those_of_the_file_behind_the_links()
    {
        using var folder = new TemporaryFolder();
        var file = folder.Write("file", new string('x', 5000));
        File.SetLastWriteTimeUtc(file, new DateTime(2020, 1, 2, 0, 0, 0, DateTimeKind.Utc));
        _ = File.CreateSymbolicLink(folder.At("first"), "file");
        _ = File.CreateSymbolicLink(folder.At("second"), folder.At("first"));
        foreach (var path in new[] { file, folder.At("first"), folder.At("second") })
        {
            Assert.That(FileLinks.File(path).Length, Is.EqualTo(5000), path);
            Assert.That(FileLinks.File(path).LastWriteTimeUtc.Year, Is.EqualTo(2020), path);
        }
    }

    [Test]
    public void A_link_that_leads_nowhere_is_told_from_everything_else()
    {
        using var folder = new TemporaryFolder();
        _ = File.CreateSymbolicLink(folder.At("broken"), "gone");
        _ = File.CreateSymbolicLink(folder.At("circle"), "circle");
        _ = Directory.CreateSymbolicLink(folder.At("up"), folder.Root);
        Assert.That(FileLinks.BrokenTarget(folder.At("broken")), Is.EqualTo(folder.At("gone")));
        Assert.That(FileLinks.BrokenTarget(folder.At("circle")), Is.EqualTo("circle"));
        foreach (var path in new[] { folder.At("up"), folder.Write("file", "x"), folder.At("missing"), "", null })
        {
            Assert.That(FileLinks.BrokenTarget(path), Is.Null, path);
        }
    }

    [Test]
    public void A_link_back_to_a_folder_that_it_lies_in_adds_no_file_twice()
    {
        using var folder = new TemporaryFolder();
        _ = folder.Write("data/a.jsonl", "x");
        _ = folder.Write("data/inner/b.jsonl", "x");
        _ = folder.Write("other/c.jsonl", "x");
        _ = Directory.CreateSymbolicLink(folder.At("data", "self"), ".");
        _ = Directory.CreateSymbolicLink(folder.At("data", "inner", "top"), folder.At("data"));
        _ = Directory.CreateSymbolicLink(folder.At("data", "other"), folder.At("other"));
        Assert.That(
            FileLinks.FilesWithin(folder.At("data")).Order(StringComparer.Ordinal),
            Is.EqualTo(new[] { folder.At("data", "a.jsonl"), folder.At("data", "inner", "b.jsonl"), folder.At("data", "other", "c.jsonl") }));
    }
}
