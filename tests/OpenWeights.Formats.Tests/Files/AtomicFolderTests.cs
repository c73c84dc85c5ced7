using NUnit.Framework;
using OpenWeights.Formats.Files;
using OpenWeights.Testing;

namespace OpenWeights.Formats.Tests.Files;

public sealed class AtomicFolderTests
{
    private TemporaryFolder folder = null!;

    [SetUp]
    public void CreateFolder() => folder = new TemporaryFolder();

    [TearDown]
    public void RemoveFolder() => folder.Dispose();

    [Test]
    public void A_folder_appears_whole_with_its_commit_and_leaves_nothing_else()
    {
        var place = Path.Combine(folder["runs"], "step-00000010");
        using (var work = AtomicFolder.Create(place))
        {
            File.WriteAllText(Path.Combine(work.WorkPath, "state.json"), "{}");
            Directory.CreateDirectory(Path.Combine(work.WorkPath, "adapter"));
            File.WriteAllText(Path.Combine(work.WorkPath, "adapter", "weights"), "w");
            Assert.That(Directory.Exists(place), Is.False);
            Assert.That(Path.GetFileName(work.WorkPath), Does.Match(@"^\.step-00000010\.[0-9a-f]{16}\.tmp$"));
            work.Commit();
            Assert.That(() => work.Commit(), Throws.InvalidOperationException);
        }

        Assert.That(File.ReadAllText(Path.Combine(place, "adapter", "weights")), Is.EqualTo("w"));
        Assert.That(Directory.GetFileSystemEntries(folder["runs"]), Is.EqualTo(new[] { place }));
    }

    [Test]
    public void A_failure_while_filling_leaves_the_old_folder_and_nothing_else()
    {
        folder.Folder("model", "old.txt");

        Assert.That(() => AtomicFolder.Write(folder["model"], work =>
        {
            File.WriteAllText(Path.Combine(work, "new.txt"), "");
            throw new InvalidDataException("broken");
        }, replace: true), Throws.InstanceOf<InvalidDataException>());
        Assert.That(folder.Names, Is.EqualTo(new[] { "model" }));
        Assert.That(File.Exists(Path.Combine(folder["model"], "old.txt")), Is.True);
    }

    [Test]
    public void A_full_folder_is_refused_at_once_unless_it_is_to_be_replaced()
    {
        folder.Folder("model", "old.txt");
        Assert.That(() => AtomicFolder.Create(folder["model"]), Throws.InstanceOf<IOException>()
            .With.Message.Contains(folder["model"]).And.Message.Contains("not empty"));

        AtomicFolder.Write(folder["model"], work => File.WriteAllText(Path.Combine(work, "new.txt"), ""), replace: true);
        Assert.That(Directory.GetFiles(folder["model"]).Select(Path.GetFileName), Is.EqualTo(new[] { "new.txt" }));
        Assert.That(folder.Names, Is.EqualTo(new[] { "model" }));
    }

    [Test]
    public void Where_folders_cannot_trade_places_the_old_one_is_moved_aside_and_then_removed()
    {
        folder.Folder("model", "old.txt");
        using (var work = AtomicFolder.Create(folder["model"], replace: true))
        {
            File.WriteAllText(Path.Combine(work.WorkPath, "new.txt"), "");
            work.MoveOverOld();
        }

        Assert.That(Directory.GetFiles(folder["model"]).Select(Path.GetFileName), Is.EqualTo(new[] { "new.txt" }));
        Assert.That(folder.Names, Is.EqualTo(new[] { "model" }));
    }

    [Test]
    public void An_empty_folder_is_filled_and_a_trailing_slash_does_not_matter()
    {
        folder.Folder("empty");
        AtomicFolder.Write(folder["empty"] + Path.DirectorySeparatorChar, work => File.WriteAllText(Path.Combine(work, "a"), ""));

        Assert.That(File.Exists(Path.Combine(folder["empty"], "a")), Is.True);
        Assert.That(folder.Names, Is.EqualTo(new[] { "empty" }));
    }

    [Test]
    public void What_comes_to_stand_in_the_place_meanwhile_is_not_overwritten()
    {
        using var work = AtomicFolder.Create(folder["model"]);
        folder.Folder("model", "other.txt");

        Assert.That(work.Commit, Throws.InstanceOf<IOException>().With.Message.Contains("not empty"));
        Assert.That(File.Exists(Path.Combine(folder["model"], "other.txt")), Is.True);
    }

    [Test]
    public void Neither_a_file_nor_a_root_nor_a_folder_around_the_current_one_is_replaced()
    {
        File.WriteAllText(folder["file"], "");
        Assert.That(() => AtomicFolder.Create(folder["file"], replace: true), Throws.InstanceOf<IOException>()
            .With.Message.Contains("a file of that name"));
        Assert.That(() => AtomicFolder.Create(Path.GetPathRoot(folder.Root)!, replace: true), Throws.InstanceOf<IOException>()
            .With.Message.Contains("root"));
        Assert.That(() => AtomicFolder.Create(Path.GetDirectoryName(Environment.CurrentDirectory)!, replace: true),
            Throws.InstanceOf<IOException>().With.Message.Contains("current folder"));
        Assert.That(() => AtomicFolder.Create(Environment.CurrentDirectory, replace: true), Throws.InstanceOf<IOException>()
            .With.Message.Contains("current folder"));
    }

    [Test]
    [Platform("Unix")]
    public void Behind_a_link_the_folder_itself_is_replaced_and_the_link_stays()
    {
        folder.Folder("disk", "old.txt");
        Directory.CreateSymbolicLink(folder["link"], folder["disk"]);
        AtomicFolder.Write(folder["link"], work => File.WriteAllText(Path.Combine(work, "new.txt"), ""), replace: true);

        Assert.That(new DirectoryInfo(folder["link"]).LinkTarget, Is.EqualTo(folder["disk"]));
        Assert.That(Directory.GetFiles(folder["disk"]).Select(Path.GetFileName), Is.EqualTo(new[] { "new.txt" }));
    }

    [Test]
    public void Leftovers_of_killed_runs_are_removed_and_nothing_else_is()
    {
        folder.Folder("step-1", "a");
        folder.Folder(".step-2.0123456789abcdef.tmp", "a", "b/c");
        folder.Folder(".step-1.0123456789abcdef.old", "a");
        string[] others = [".hidden", ".x.tmp", "y.0123456789abcdef.tmp", ".z.0123456789abcdeg.tmp", ".z.0123456789abcdef.tmp.bak",
            ".gitignore"];
        foreach (var name in others.Append(".metrics.jsonl.fedcba9876543210.tmp"))
        {
            File.WriteAllText(folder[name], "");
        }

        var cleaned = StaleFiles.Clean(folder.Root);

        Assert.That(cleaned, Is.EquivalentTo(new[]
        {
            folder[".step-2.0123456789abcdef.tmp"], folder[".step-1.0123456789abcdef.old"], folder[".metrics.jsonl.fedcba9876543210.tmp"],
        }));
        Assert.That(folder.Names, Is.EquivalentTo(others.Append("step-1")));
    }

    [Test]
    public void A_folder_that_was_moved_aside_and_never_replaced_is_put_back()
    {
        folder.Folder(".model.0123456789abcdef.old", "weights");
        StaleFiles.Clean(folder.Root);

        Assert.That(folder.Names, Is.EqualTo(new[] { "model" }));
        Assert.That(File.Exists(Path.Combine(folder["model"], "weights")), Is.True);
        Assert.That(StaleFiles.Clean(folder["missing"]), Is.Empty);
    }

    [Test]
    public void A_folder_that_vanishes_under_way_is_reported_with_its_place()
    {
        using var work = AtomicFolder.Create(folder["model"]);
        Directory.Delete(work.WorkPath);

        Assert.That(work.Commit, Throws.InstanceOf<DirectoryNotFoundException>()
            .With.Message.StartsWith($"cannot write {folder["model"]}: "));
    }
}
