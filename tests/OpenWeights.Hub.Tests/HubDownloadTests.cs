using System.Diagnostics;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Hub.Tests;

/// <summary>Downloads from a server that misbehaves on purpose.</summary>
public sealed class HubDownloadTests
{
    private const string Weights = "model.safetensors";
    private const string CdnWeights = "/cdn/" + Weights;
    private TemporaryFolder _work = null!;
    private FakeHub _hub = null!;
    private byte[] _large = null!;

    [SetUp]
    public void Start()
    {
        _work = new TemporaryFolder();
        _hub = new FakeHub();
        _large = new byte[100_000];
        new Random(1).NextBytes(_large);
        _hub.Files["config.json"] = "{}"u8.ToArray();
        _hub.Files[Weights] = _large;
        _hub.Files["sub/tokenizer.json"] = "{ }"u8.ToArray();
        _hub.Files["pytorch_model.bin"] = new byte[500];
    }

    [TearDown]
    public void Stop()
    {
        _hub.Dispose();
        _work.Dispose();
    }

    [TestCase(true)]
    [TestCase(false)]
    public async Task Headers_are_fetched_without_what_follows_them(bool withRanges)
    {
        // A header longer than the first request, then values.
        var header = "{\"a\":{}" + new string(' ', 300_000) + "}";
        var file = new byte[2_000_000];
        Array.Fill(file, (byte)7);
        BitConverter.TryWriteBytes(file, (ulong)header.Length);
        System.Text.Encoding.ASCII.GetBytes(header).CopyTo(file, 8);
        _hub.Files[Weights] = file;
        _hub.Misbehave = withRanges ? null : (context, _) =>
        {
            context.Request.Headers.Remove("Range");
            return false;
        };
        var settings = Settings();
        var listed = await HubDownload.List(settings, HubKind.Model, "org/tiny", "main", CancellationToken.None);
        await HubDownload.FetchHeaders(settings, listed, _work.Root, CancellationToken.None);

        var written = File.ReadAllBytes(_work.At(Weights));
        Assert.That(written[..(8 + header.Length)], Is.EqualTo(file[..(8 + header.Length)]));
        Assert.That(written[(8 + header.Length)..], Is.EqualTo(new byte[file.Length - 8 - header.Length]), "as long, and without the values");
        Assert.That(_hub.Requests.Where(static r => r.Path == CdnWeights).Select(static r => r.Range), Is.EqualTo(new[] { "bytes=0-262143", $"bytes=262144-{7 + header.Length}" }));
    }

    [Test]
    public void A_machine_without_a_network_is_told_at_once()
    {
        var watch = Stopwatch.StartNew();
        var settings = new HubSettings { Endpoint = new Uri("http://127.0.0.1:9"), CacheFolder = _work.At("cache"), FirstWait = TimeSpan.FromSeconds(30) };
        Assert.That(
            () => HubDownload.Fetch(settings, "org/tiny", "main", HubFilter.Model, null, CancellationToken.None),
            Throws.InstanceOf<IOException>().With.Message.Contains("is this machine offline?"));
        Assert.That(watch.Elapsed, Is.LessThan(TimeSpan.FromSeconds(10)), "a second try would have waited 30 seconds");
    }

    [Test]
    public void A_model_lands_in_the_hubs_own_cache_layout()
    {
        var snapshot = Fetch();
        var root = _work.At("cache", "models--org--tiny");
        Assert.That(snapshot, Is.EqualTo(Path.Combine(root, "snapshots", FakeHub.Commit)));
        Assert.That(File.ReadAllText(Path.Combine(root, "refs", "main")), Is.EqualTo(FakeHub.Commit));
        Assert.That(File.ReadAllBytes(Path.Combine(snapshot, Weights)), Is.EqualTo(_large));
        Assert.That(File.ReadAllText(Path.Combine(snapshot, "sub", "tokenizer.json")), Is.EqualTo("{ }"));
        Assert.That(File.Exists(Path.Combine(snapshot, "pytorch_model.bin")), Is.False, "the same weights in another format are left out");
        if (!OperatingSystem.IsWindows())
        {
            Assert.That(new FileInfo(Path.Combine(snapshot, Weights)).LinkTarget, Is.EqualTo($"../../blobs/{FakeHub.Sha256(_large)}"));
            Assert.That(new FileInfo(Path.Combine(snapshot, "sub", "tokenizer.json")).LinkTarget, Is.EqualTo($"../../../blobs/{FakeHub.GitHash("{ }"u8.ToArray())}"));
        }

        Assert.That(Directory.GetFiles(Path.Combine(root, "blobs"), "*owt*"), Is.Empty, "nothing unfinished stays");
    }

    [Test]
    public void What_is_there_is_not_fetched_again_and_is_found_offline()
    {
        var snapshot = Fetch();
        var before = _hub.Requests.Count(static r => r.Path.StartsWith("/cdn/", StringComparison.Ordinal));
        Assert.That(Fetch(), Is.EqualTo(snapshot));
        Assert.That(_hub.Requests.Count(static r => r.Path.StartsWith("/cdn/", StringComparison.Ordinal)), Is.EqualTo(before));
        _hub.Dispose();
        Assert.That(Fetch(Settings() with { Offline = true }), Is.EqualTo(snapshot));
        Assert.That(() => Fetch(Settings() with { Offline = true, CacheFolder = _work["empty"] }), Throws.InstanceOf<IOException>().With.Message.Contains("HF_HUB_OFFLINE"));
    }

    [Test]
    public void The_token_goes_to_the_Hub_and_not_to_where_it_redirects()
    {
        Fetch(Settings() with { Token = "secret" });
        Assert.That(_hub.Requests.Where(static r => r.Host == "127.0.0.1").Select(static r => r.Authorization), Is.All.EqualTo("Bearer secret"));
        Assert.That(_hub.Requests.Where(static r => r.Host == FakeHub.FileHost).Select(static r => r.Authorization), Is.All.Null.And.Not.Empty);
    }

    [Test]
    public void A_large_file_comes_in_parts_and_goes_on_after_a_cut()
    {
        _hub.Misbehave = (context, before) =>
        {
            if (context.Request.Url!.AbsolutePath != CdnWeights || before % 2 == 1)
            {
                return false;
            }

            FakeHub.Cut(context, _large, 3000);
            return true;
        };
        Assert.That(File.ReadAllBytes(Path.Combine(Fetch(), Weights)), Is.EqualTo(_large));
        Assert.That(_hub.Requests.Select(static r => r.Range), Does.Contain("bytes=65536-81919"));
    }

    [Test]
    public void A_second_try_fetches_only_the_parts_that_are_missing()
    {
        _hub.Misbehave = (context, _) =>
        {
            if (context.Request.Headers["Range"] != "bytes=98304-99999")
            {
                return false;
            }

            FakeHub.Cut(context, _large, 10);
            return true;
        };
        Assert.That(() => Fetch(), Throws.InstanceOf<IOException>());
        Assert.That(File.Exists(_work.At("cache", "models--org--tiny", "snapshots", FakeHub.Commit, Weights)), Is.False);
        _hub.Misbehave = null;
        _hub.Requests.Clear();
        Assert.That(File.ReadAllBytes(Path.Combine(Fetch(), Weights)), Is.EqualTo(_large));
        Assert.That(_hub.Requests.Where(static r => r.Path == CdnWeights).Select(static r => r.Range), Does.Contain("bytes=98304-99999").And.Not.Contain("bytes=0-16383"));
    }

    [Test]
    public void A_wrong_range_is_not_taken()
    {
        _hub.Misbehave = (context, before) =>
        {
            if (context.Request.Url!.AbsolutePath != CdnWeights || before > 3)
            {
                return false;
            }

            context.Response.StatusCode = 206;
            context.Response.Headers["Content-Range"] = $"bytes 0-99/{_large.Length}";
            context.Response.ContentLength64 = 100;
            context.Response.OutputStream.Write(_large, 0, 100);
            context.Response.Close();
            return true;
        };
        Assert.That(File.ReadAllBytes(Path.Combine(Fetch(), Weights)), Is.EqualTo(_large));
    }

    [Test]
    public void A_server_without_ranges_serves_too()
    {
        _hub.Misbehave = (context, _) =>
        {
            if (context.Request.Url!.AbsolutePath != CdnWeights)
            {
                return false;
            }

            context.Response.ContentLength64 = _large.Length;
            context.Response.OutputStream.Write(_large);
            context.Response.Close();
            return true;
        };
        Assert.That(File.ReadAllBytes(Path.Combine(Fetch(), Weights)), Is.EqualTo(_large));
    }

    [Test]
    public void A_busy_server_is_asked_again_after_the_time_it_names()
    {
        _hub.Misbehave = static (context, before) =>
        {
            if (before > 0 || !context.Request.Url!.AbsolutePath.StartsWith("/api", StringComparison.Ordinal))
            {
                return false;
            }

            context.Response.Headers["Retry-After"] = "1";
            FakeHub.Refuse(context, 429);
            return true;
        };
        var watch = Stopwatch.StartNew();
        Fetch();
        Assert.That(watch.Elapsed.TotalSeconds, Is.InRange(0.95, 20));
        _hub.Misbehave = static (context, _) =>
        {
            FakeHub.Refuse(context, 503);
            return true;
        };
        Assert.That(() => Fetch(), Throws.InstanceOf<IOException>().With.Message.Contains("503"));
    }

    [Test]
    public void A_connection_that_brings_nothing_is_given_up_and_tried_again()
    {
        _hub.Misbehave = (context, before) =>
        {
            if (context.Request.Url!.AbsolutePath != CdnWeights || before > 0)
            {
                return false;
            }

            var (from, to) = FakeHub.Range(context, _large.Length);
            FakeHub.Head(context, _large.Length, from, to);
            context.Response.OutputStream.Write(_large, from, 5);
            context.Response.OutputStream.Flush();
            Thread.Sleep(5000);
            context.Response.Abort();
            return true;
        };
        Assert.That(File.ReadAllBytes(Path.Combine(Fetch(Settings() with { StallTimeout = TimeSpan.FromSeconds(1) }), Weights)), Is.EqualTo(_large));
    }

    [Test]
    public void A_file_with_another_hash_is_refused_and_leaves_nothing()
    {
        var wrong = (byte[])_large.Clone();
        wrong[50_000] ^= 1;
        _hub.Misbehave = (context, _) =>
        {
            if (context.Request.Url!.AbsolutePath != CdnWeights)
            {
                return false;
            }

            FakeHub.Cut(context, wrong, int.MaxValue);
            return true;
        };
        Assert.That(() => Fetch(), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("damaged"));
        Assert.That(Directory.GetFiles(_work.At("cache", "models--org--tiny", "blobs"), FakeHub.Sha256(_large) + "*"), Is.Empty);
    }

    [TestCase("../outside.json")]
    [TestCase("a/../../outside.json")]
    [TestCase("/etc/outside.json")]
    [TestCase("a\\..\\outside.json")]
    [TestCase("C:outside.json")]
    public void A_file_name_that_leads_elsewhere_is_refused(string name)
    {
        _hub.Files[name] = [1];
        Assert.That(() => Fetch(), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("outside"));
    }

    [Test]
    public void Gated_missing_and_unknown_are_told_apart_and_explained()
    {
        _hub.Misbehave = static (context, _) =>
        {
            FakeHub.Refuse(context, 403, "GatedRepo");
            return true;
        };
        Assert.That(() => Fetch(), Throws.InstanceOf<UnauthorizedAccessException>().With.Message.Contains("gated").And.Message.Contains("HF_TOKEN"));
        _hub.Misbehave = static (context, _) =>
        {
            FakeHub.Refuse(context, 404, "RevisionNotFound");
            return true;
        };
        Assert.That(() => Fetch(), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("revision"));
        _hub.Misbehave = static (context, _) =>
        {
            FakeHub.Refuse(context, 401, "RepoNotFound");
            return true;
        };
        Assert.That(() => Fetch(), Throws.InstanceOf<UnauthorizedAccessException>().With.Message.Contains("private"));
    }

    [Test]
    public void Patterns_choose_the_files()
    {
        var snapshot = Fetch(filter: new HubFilter(["*.json", "*.bin"], ["sub/*"]));
        Assert.That(Directory.GetFileSystemEntries(snapshot).Select(Path.GetFileName).Order(), Is.EqualTo(new[] { "config.json", "pytorch_model.bin" }));
    }

    [Test]
    public void Licence_and_size_are_told_before_anything_is_fetched()
    {
        var listener = new Listener();
        _ = HubDownload.Fetch(Settings(), "org/tiny", "main", HubFilter.Model, listener, default).GetAwaiter().GetResult();
        Assert.That(listener.Told, Is.EqualTo("apache-2.0, 3 files, 100005 bytes, 0 fetched"));
        Assert.That(listener.Last, Is.EqualTo((100_005, 100_005)));
    }

    [TestCase("org/name", true)]
    [TestCase("HuggingFaceTB/SmolLM2-135M-Instruct", true)]
    [TestCase("folder", false)]
    [TestCase("a/b/c", false)]
    [TestCase("../b", false)]
    [TestCase("./b", false)]
    [TestCase("a/..", false)]
    public void Names_on_the_Hub_are_told_by_their_letters(string text, bool isName) => Assert.That(HubName.IsName(text), Is.EqualTo(isName));

    private HubSettings Settings() => new()
    {
        Endpoint = _hub.Endpoint,
        CacheFolder = _work["cache"],
        FirstWait = TimeSpan.FromMilliseconds(5),
        PartBytes = 16384,
        StallTimeout = TimeSpan.FromSeconds(10),
    };

    private string Fetch(HubSettings? settings = null, HubFilter? filter = null) =>
        HubDownload.Fetch(settings ?? Settings(), "org/tiny", "main", filter ?? HubFilter.Model, null, default).GetAwaiter().GetResult();

    private sealed class Listener : IHubListener
    {
        private long _fetched;

        internal string? Told { get; private set; }

        internal (long, long) Last { get; private set; }

        public void Found(HubRevision revision, IReadOnlyList<HubFile> files, long missingBytes) => Told = $"{revision.License}, {files.Count} files, {missingBytes} bytes, {_fetched} fetched";

        public void Progressed(long done, long total)
        {
            _fetched = done;
            Last = (done, total);
        }
    }
}
