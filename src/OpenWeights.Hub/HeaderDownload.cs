using System.Buffers.Binary;
using System.Net;
using System.Net.Http.Headers;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace OpenWeights.Hub;

/// <summary>
/// Fetches the headers of safetensors files, which tell names, types and shapes of all tensors
/// (<see href="https://github.com/huggingface/safetensors#format"/>), and leaves the tensors' bytes at the Hub.
/// </summary>
internal sealed partial class HeaderDownload(HubClient client, HubSettings settings, HubRevision revision)
{
    // Most headers are shorter, so that one request is enough.
    private const int FirstBytes = 1 << 18;
    private const int PrefixLength = sizeof(ulong);
    private const ulong LongestHeader = 100_000_000;
    private const uint SetSparse = 0x000900C4;

    /// <summary>Writes a file as long as the Hub's, with its header, and nothing where its tensors would be.</summary>
    public async Task Write(HubFile file, string path, CancellationToken stop)
    {
        var start = file.Size < PrefixLength ? [] : await Read(file, 0, Math.Min(FirstBytes, file.Size), stop).ConfigureAwait(false);
        if (start.Length < PrefixLength || BinaryPrimitives.ReadUInt64LittleEndian(start) is > LongestHeader or 0)
        {
            throw new InvalidDataException($"{revision.Name}: {file.Path} is not a safetensors file");
        }

        var end = Math.Min(file.Size, PrefixLength + (long)BinaryPrimitives.ReadUInt64LittleEndian(start));
        var rest = end > start.Length ? await Read(file, start.Length, end - start.Length, stop).ConfigureAwait(false) : [];
        using var handle = File.OpenHandle(path, FileMode.CreateNew, FileAccess.Write);
        MakeSparse(handle);
        RandomAccess.SetLength(handle, file.Size);
        await RandomAccess.WriteAsync(handle, start.AsMemory(0, (int)Math.Min(start.Length, end)), 0, stop).ConfigureAwait(false);
        await RandomAccess.WriteAsync(handle, rest, start.Length, stop).ConfigureAwait(false);
    }

    private Task<byte[]> Read(HubFile file, long start, long length, CancellationToken stop) => client.Try($"{revision.Name}: {file.Path}", async () =>
    {
        using var response = await client.Send(revision.Name, revision.AddressOf(file, settings.Endpoint), new RangeHeaderValue(start, start + length - 1), stop).ConfigureAwait(false);
        var stream = await response.Content.ReadAsStreamAsync(stop).ConfigureAwait(false);
        await using var closing = stream.ConfigureAwait(false);
        // A server without ranges sends the file from its beginning.
        var before = response.StatusCode == HttpStatusCode.PartialContent ? 0 : start;
        var bytes = new byte[before + length];
        for (var at = 0; at < bytes.Length;)
        {
            var count = await client.ReadSome(stream, bytes.AsMemory(at), stop).ConfigureAwait(false);
            at += count > 0 ? count : throw new HttpIOException(HttpRequestError.ResponseEnded, $"{file.Path} ended after {at} of {bytes.Length} bytes");
        }

        return bytes[(int)before..];
    }, stop);

    // Elsewhere what is not written takes no room; Windows has to be told.
    private static void MakeSparse(SafeFileHandle file)
    {
        if (OperatingSystem.IsWindows())
        {
            _ = DeviceIoControl(file, SetSparse, 0, 0, 0, 0, out _, 0);
        }
    }

    [LibraryImport("kernel32")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
    [return: MarshalAs(UnmanagedType.Bool)]
    private static partial bool DeviceIoControl(SafeFileHandle file, uint code, nint input, uint inputBytes, nint output, uint outputBytes, out uint written, nint overlapped);
}
