using System.Text;

namespace OpenWeights.Formats.Files;

/// <summary>
/// Writes files whole or not at all: into a temporary file beside the target (<c>.NAME.0123456789abcdef.tmp</c>), which is flushed to
/// the disk and then renamed to the target. A reader sees the old content or the new, never a part. A failure deletes the temporary
/// file and leaves the old file as it was. A killed process can leave the temporary file behind: see <see cref="StaleFiles"/>.
/// </summary>
/// <remarks>A symbolic link under the name is replaced by a file; what it pointed to is not touched. The permissions of a replaced
/// file are kept on Unix.</remarks>
internal static class AtomicFile
{
    private const int BufferSize = 1 << 20;

    private static readonly UTF8Encoding StrictUtf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <summary>Writes a text as UTF-8 without a byte order mark; line ends are written as they are.</summary>
    /// <param name="path">The file; its folder must exist.</param>
    /// <param name="text">The whole content.</param>
    /// <exception cref="ArgumentException">The text has half of a surrogate pair.</exception>
    /// <exception cref="IOException">The disk is full, the folder is missing, or the system refused otherwise; the message names
    /// the path and the cause.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder may not be written to.</exception>
    public static void WriteText(string path, string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        WriteBytes(path, StrictUtf8.GetBytes(text));
    }

    /// <summary>Writes bytes.</summary>
    /// <param name="path">The file; its folder must exist.</param>
    /// <param name="bytes">The whole content.</param>
    /// <exception cref="IOException">The disk is full, the folder is missing, or the system refused otherwise; the message names
    /// the path and the cause.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder may not be written to.</exception>
    public static void WriteBytes(string path, ReadOnlySpan<byte> bytes)
    {
        using var writing = new Writing(path, bytes.Length);
        writing.Stream.Write(bytes);
        writing.Finish();
    }

    /// <summary>Writes a file through a callback.</summary>
    /// <param name="path">The file; its folder must exist.</param>
    /// <param name="write">Writes the whole content into a stream that only goes forward; an exception from it leaves the old file
    /// as it was and passes on.</param>
    /// <param name="expectedBytes">The expected size, if known. A disk without that much free space is then refused before anything is
    /// written.</param>
    /// <exception cref="IOException">The disk is full, the folder is missing, or the system refused otherwise; the message names
    /// the path and the cause.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder may not be written to.</exception>
    public static void Write(string path, Action<Stream> write, long expectedBytes = 0)
    {
        ArgumentNullException.ThrowIfNull(write);
        using var writing = new Writing(path, expectedBytes);
        write(writing.Stream);
        writing.Finish();
    }

    /// <summary>Copies a file's bytes (not its permissions) to another path.</summary>
    /// <param name="source">The file to read.</param>
    /// <param name="path">The file to write; its folder must exist.</param>
    /// <exception cref="FileNotFoundException">There is no source.</exception>
    /// <exception cref="IOException">The source cannot be read, or as with <see cref="Write"/>.</exception>
    /// <exception cref="UnauthorizedAccessException">The source may not be read, or the folder may not be written to.</exception>
    public static void Copy(string source, string path)
    {
        using var from = new FileStream(source, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, bufferSize: 0);
        Write(path, to => from.CopyTo(to, BufferSize), from.Length);
    }

    private sealed class Writing : IDisposable
    {
        private readonly string path;
        private readonly string temporary;
        private readonly FileStream file;
        private bool finished;

        public Writing(string path, long expectedBytes)
        {
            ArgumentException.ThrowIfNullOrEmpty(path);
            this.path = Path.GetFullPath(path);
            CheckTarget(this.path);
            FreeSpace.Require(this.path, expectedBytes);
            temporary = TemporaryName.Beside(this.path, TemporaryName.Unfinished);
            try
            {
                file = new FileStream(temporary, Options(this.path));
            }
            catch (Exception error) when (WriteFailure.IsFromSystem(error))
            {
                throw WriteFailure.Explain(this.path, error);
            }

            Stream = new TargetStream(file, this.path);
        }

        public Stream Stream { get; }

        public void Finish()
        {
            try
            {
                file.Flush(flushToDisk: true);
                file.Dispose();
                File.Move(temporary, path, overwrite: true);
                finished = true;
                NativeFiles.SyncFolder(Path.GetDirectoryName(path)!);
            }
            catch (Exception error) when (WriteFailure.IsFromSystem(error))
            {
                throw WriteFailure.Explain(path, error);
            }
        }

        public void Dispose()
        {
            if (finished)
            {
                return;
            }

            try
            {
                file.Dispose();
            }
            catch (Exception error) when (WriteFailure.IsFromSystem(error))
            {
                // A full disk refuses the buffer's rest; what is being thrown already says so.
            }

            TryDelete(temporary);
        }

        private static void CheckTarget(string path)
        {
            var folder = Path.GetDirectoryName(path);
            if (folder is null || Directory.Exists(path))
            {
                throw new IOException($"cannot write {path}: it is a folder; give the name of a file");
            }

            if (!Directory.Exists(folder))
            {
                throw new DirectoryNotFoundException($"cannot write {path}: the folder {folder} does not exist; create it first");
            }
        }

        private static FileStreamOptions Options(string path)
        {
            var options = new FileStreamOptions
            {
                Mode = FileMode.CreateNew,
                Access = FileAccess.Write,
                Share = FileShare.None,
                BufferSize = BufferSize,
            };
            if (!OperatingSystem.IsWindows() && File.Exists(path))
            {
                options.UnixCreateMode = File.GetUnixFileMode(path);
            }

            return options;
        }

        private static void TryDelete(string path)
        {
            try
            {
                File.Delete(path);
            }
            catch (Exception error) when (WriteFailure.IsFromSystem(error))
            {
                // The first failure is the one to report; the name tells what this file is.
            }
        }
    }
}
