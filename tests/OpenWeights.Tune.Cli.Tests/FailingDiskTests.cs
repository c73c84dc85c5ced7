using System.Diagnostics;
using NUnit.Framework;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>Disks and machines that refuse: a clear sentence, and nothing is damaged.</summary>
[Platform("Linux")]
public sealed class FailingDiskTests
{
    [Test]
    public void A_full_disk_ends_with_3_and_the_checkpoints_before_stay_whole()
    {
        using var work = new Workspace();
        using var disk = SmallDisk.Mount(work.At("run"));
        Owt.Run(work.Root, 0, "train", "train.yaml");
        disk.Fill(leave: 24 << 10);
        var owt = Owt.Run(work.Root, 3, "train", "train.yaml", "--resume", "training.max_steps=16");
        Assert.That(owt.Error, Does.Contain(work.At("run")).And.Contain("make room"));
        Assert.That(owt.Error, Does.Not.Contain("   at ").And.Not.Contain("bug in the program"));
        Assert.That(Directory.GetDirectories(work.At("run", "checkpoints")).Select(Path.GetFileName), Is.EquivalentTo(new[] { "step-00000008", "step-00000012" }));
        disk.Empty();
        Assert.That(Owt.Run(work.Root, 0, "train", "train.yaml", "--resume", "training.max_steps=16").Error, Does.Contain("of which 12 are done"));
    }

    [Test]
    public void A_file_that_may_not_grow_ends_with_3_and_the_run_goes_on_afterwards()
    {
        // A limit of 16 KiB on every file stands in for a full disk where none can be mounted: metrics fit under it, a checkpoint does not.
        using var work = new Workspace("max_steps: 8, micro_batch_size: 2, warmup_steps: 2, learning_rate: 1.0e-2");
        var owt = Owt.RunInShell(
            work.Root, "export DOTNET_EnableWriteXorExecute=0; trap '' XFSZ; ulimit -f 32; exec \"$@\"", 3, "train", "train.yaml", "data.cache=off");
        Assert.That(owt.Error, Does.Contain(work.At("run", "checkpoints")));
        Assert.That(owt.Error, Does.Not.Contain("   at ").And.Not.Contain("bug in the program"));
        Assert.That(Directory.GetDirectories(work.At("run", "checkpoints"), "step-*"), Is.Empty, "no half checkpoint");
        Owt.Run(work.Root, 0, "train", "train.yaml", "--resume");
    }

    [Test]
    public void A_place_that_cannot_be_written_ends_with_3_and_is_named()
    {
        using var work = new Workspace();
        var owt = Owt.Run(work.Root, 3, "train", "train.yaml", "output_dir=/proc/owt-run");
        Assert.That(owt.Error, Does.Contain("/proc/owt-run").And.Contain("output_dir"));
        Assert.That(owt.Error, Does.Not.Contain("   at ").And.Not.Contain("bug in the program"));
    }

    [Test]
    public void A_place_that_cannot_be_written_is_told_before_anything_is_read()
    {
        using var work = new Workspace();
        Assert.That(Owt.Run(work.Root, 3, "train", "train.yaml", "output_dir=/proc/owt-run").Error, Does.Not.Contain("reading the"));
    }

    [Test]
    public void Rows_that_do_not_fit_into_memory_are_answered_with_what_to_change()
    {
        // A process of 6 GiB of addresses, and rows whose layers keep more than that.
        using var work = new Workspace();
        var row = $"{{\"input_ids\": [{string.Join(',', Enumerable.Range(0, 500).Select(static i => i % 300))}]}}\n";
        work.Write("rows.jsonl", string.Concat(Enumerable.Repeat(row, 4_000)));
        var owt = Owt.RunInShell(
            work.Root, "export DOTNET_GCHeapHardLimit=0x10000000; ulimit -v 6291456; exec \"$@\"", 3,
            "train", "train.yaml", "data.cache=off", "training.micro_batch_size=4000", "training.worst_batch_first=true");
        Assert.That(owt.Error, Does.Contain("training.micro_batch_size").And.Contain("data.max_length").And.Contain("training.activation_checkpointing"));
    }

    /// <summary>A file system of a MiB in memory, where this user may mount one.</summary>
    private sealed class SmallDisk : IDisposable
    {
        private readonly string _folder;

        private SmallDisk(string folder) => _folder = folder;

        internal static SmallDisk Mount(string folder)
        {
            _ = Directory.CreateDirectory(folder);
            if (Shell("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder) != 0)
            {
                Assert.Ignore("mounting a small file system needs rights that this user has not");
            }

            return new SmallDisk(folder);
        }

        internal void Fill(int leave)
        {
            using var ballast = new FileStream(Path.Combine(_folder, "ballast"), FileMode.Create, FileAccess.Write, FileShare.None, 0);
            try
            {
                while (true)
                {
                    ballast.Write(new byte[4096]);
                }
            }
            catch (IOException)
            {
                ballast.SetLength(ballast.Length - leave);
            }
        }

        internal void Empty() => File.Delete(Path.Combine(_folder, "ballast"));

        public void Dispose() => Shell("umount", _folder);

        private static int Shell(string program, params string[] arguments)
        {
            try
            {
                using var process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardError = true })!;
                process.WaitForExit();
                return process.ExitCode;
            }
            catch (System.ComponentModel.Win32Exception)
            {
                return -1;
            }
        }
    }
}
