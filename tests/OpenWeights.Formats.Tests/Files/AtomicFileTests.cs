using NUnit.Framework;
using OpenWeights.Formats.Files;
using OpenWeights.Testing;

namespace OpenWeights.Formats.Tests.Files;

public sealed class AtomicFileTests
{
    private TemporaryFolder folder = null!;

    [SetUp]
    public void CreateFolder() => folder = new TemporaryFolder();

    [TearDown]
    public void RemoveFolder() => folder.Dispose();

    [Test]
    public void Text_is_written_as_UTF8_without_a_mark_and_replaces_the_old()
    {
        AtomicFile.WriteText(folder["a.json"], "first, and longer");
        AtomicFile.WriteText(folder["a.json"], "é\n");

        Assert.That(File.ReadAllBytes(folder["a.json"]), Is.EqualTo(new byte[] { 0xc3, 0xa9, (byte)'\n' }));
        Assert.That(folder.Names, Is.EqualTo(new[] { "a.json" }));
    }

    [Test]
    public void Until_the_writer_is_done_the_old_file_is_read_and_the_new_one_has_a_temporary_name()
    {
        File.WriteAllText(folder["a.txt"], "old");
        AtomicFile.Write(folder["a.txt"], stream =>
        {
            stream.Write("new"u8);
            var under_way = folder.Names.Single(name => name != "a.txt");
            Assert.That(File.ReadAllText(folder["a.txt"]), Is.EqualTo("old"));
            Assert.That(under_way, Does.StartWith(".a.txt.").And.EndsWith(".tmp"));
        });

        Assert.That(File.ReadAllText(folder["a.txt"]), Is.EqualTo("new"));
        Assert.That(folder.Names, Is.EqualTo(new[] { "a.txt" }));
    }

    [Test]
    public void A_failing_writer_leaves_the_old_file_and_no_temporary_and_its_own_exception()
    {
        File.WriteAllText(folder["a.txt"], "old");

        Assert.That(() => AtomicFile.Write(folder["a.txt"], stream =>
        {
            stream.Write(new byte[5 << 20]);
            throw new InvalidDataException("the source broke");
        }), Throws.InstanceOf<InvalidDataException>().With.Message.EqualTo("the source broke"));
        Assert.That(File.ReadAllText(folder["a.txt"]), Is.EqualTo("old"));
        Assert.That(folder.Names, Is.EqualTo(new[] { "a.txt" }));
    }

    [Test]
    public void A_missing_folder_and_a_folder_in_the_place_are_named()
    {
        var inside = Path.Combine(folder["missing"], "a.txt");
        Assert.That(() => AtomicFile.WriteText(inside, "x"), Throws.InstanceOf<DirectoryNotFoundException>()
            .With.Message.Contains(inside).And.Message.Contains("does not exist"));

        folder.Folder("taken");
        Assert.That(() => AtomicFile.WriteText(folder["taken"], "x"), Throws.InstanceOf<IOException>()
            .With.Message.Contains("is a folder"));
        Assert.That(() => AtomicFile.WriteText(folder.Root + Path.DirectorySeparatorChar, "x"), Throws.InstanceOf<IOException>());
    }

    [Test]
    [Platform("Unix")]
    public void A_folder_that_may_not_be_written_to_is_named_with_what_to_check()
    {
        // A privileged user may write everywhere but into the kernel's own file system.
        var closed = Environment.IsPrivilegedProcess ? "/proc" : folder.Folder("closed");
        if (OperatingSystem.IsWindows() || !Directory.Exists(closed))
        {
            Assert.Ignore("needs a folder that may not be written to");
            return;
        }

        if (!Environment.IsPrivilegedProcess)
        {
            File.SetUnixFileMode(closed, UnixFileMode.UserRead | UnixFileMode.UserExecute);
        }

        var path = Path.Combine(closed, "a.txt");
        Assert.That(() => AtomicFile.WriteText(path, "x"), Throws.InstanceOf<UnauthorizedAccessException>().Or.InstanceOf<IOException>()
            .With.Message.StartsWith($"cannot write {path}: "));
    }

    [Test]
    [Platform("Unix")]
    public void A_failure_of_the_disk_under_way_names_the_file_that_was_to_be_written()
    {
        // The device that is always full stands in for a disk that fills up.
        using var full = new FileStream("/dev/full",
            new FileStreamOptions { Mode = FileMode.Open, Access = FileAccess.Write, BufferSize = 0 });
        using var stream = new TargetStream(full, folder["a.txt"]);

        Assert.That(() => stream.Write("x"u8), Throws.InstanceOf<IOException>()
            .With.Message.StartsWith($"cannot write {folder["a.txt"]}: ").And.Message.Contains("No space left"));
    }

    [Test]
    [Platform("Unix")]
    public void A_link_is_replaced_and_what_it_points_to_is_not_touched()
    {
        File.WriteAllText(folder["blob"], "shared");
        File.CreateSymbolicLink(folder["link"], folder["blob"]);
        AtomicFile.WriteText(folder["link"], "mine");

        Assert.That(File.ReadAllText(folder["blob"]), Is.EqualTo("shared"));
        Assert.That(File.ReadAllText(folder["link"]), Is.EqualTo("mine"));
        Assert.That(new FileInfo(folder["link"]).LinkTarget, Is.Null);
    }

    [Test]
    [Platform("Unix")]
    public void The_permissions_of_a_replaced_file_are_kept()
    {
        const UnixFileMode secret = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        if (OperatingSystem.IsWindows())
        {
            return;
        }

        File.WriteAllText(folder["token"], "a");
        File.SetUnixFileMode(folder["token"], secret);
        AtomicFile.WriteText(folder["token"], "b");

        Assert.That(File.GetUnixFileMode(folder["token"]), Is.EqualTo(secret));
    }

    [Test]
    public void Readers_see_the_old_content_or_the_new_and_never_a_part()
    {
        var path = folder["value"];
        AtomicFile.WriteBytes(path, new byte[100_000]);
        using var stop = new CancellationTokenSource();
        var torn = 0;
        var reader = Task.Run(() =>
        {
            while (!stop.IsCancellationRequested)
            {
                var bytes = File.ReadAllBytes(path);
                torn += bytes.Length == 100_000 && bytes.AsSpan().IndexOfAnyExcept(bytes[0]) < 0 ? 0 : 1;
            }
        });
        for (var round = 1; round <= 50; round++)
        {
            var content = new byte[100_000];
            Array.Fill(content, (byte)round);
            AtomicFile.WriteBytes(path, content);
        }

        stop.Cancel();
        reader.Wait();
        Assert.That(torn, Is.Zero);
    }

    [Test]
    public void A_copy_has_the_bytes_of_its_source()
    {
        File.WriteAllBytes(folder["from"], [1, 2, 3]);
        AtomicFile.Copy(folder["from"], folder["to"]);

        Assert.That(File.ReadAllBytes(folder["to"]), Is.EqualTo(new byte[] { 1, 2, 3 }));
        Assert.That(() => AtomicFile.Copy(folder["missing"], folder["to"]), Throws.InstanceOf<FileNotFoundException>());
    }
}
