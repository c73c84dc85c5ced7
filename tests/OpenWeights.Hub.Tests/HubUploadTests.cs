using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Hub.Tests;

/// <summary>Uploads, and data sets.</summary>
public sealed class HubUploadTests
{
    private TemporaryFolder _work = null!;
    private byte[] _large = null!;

    [SetUp]
    public void Begin()
    {
        _work = new TemporaryFolder();
        _large = new byte[70_000];
        new Random(2).NextBytes(_large);
        File.WriteAllBytes(_work["adapter_model.safetensors"], _large);
        _work.Write("adapter_config.json", "{}");
    }

    [TearDown]
    public void Clean() => _work.Dispose();

    [TestCase(null)]
    [TestCase(30_000)]
    public void Small_files_go_with_the_commit_and_large_ones_to_the_storage_in_parts_where_it_wants_them(int? parts)
    {
        using var hub = new FakeHub { Parts = parts };
        var url = Push(hub, isPrivate: true);
        Assert.That(url, Does.EndWith($"/me/mine/commit/{FakeHub.Commit}"));
        Assert.That(hub.Created["me/mine"], Is.True, "private");
        Assert.That(hub.Summary, Is.EqualTo("a message"));
        Assert.That(hub.Committed.Keys, Is.EquivalentTo(new[] { "README.md", "adapter_config.json", "adapter_model.safetensors" }), "what .gitignore leaves out stays out");
        Assert.That(hub.Committed["adapter_model.safetensors"], Is.EqualTo(_large));
        Assert.That(hub.Requests.Where(static r => r.Host == FakeHub.FileHost).Select(static r => r.Authorization), Is.All.Null, "the token is for the Hub alone");

        // The repository is there, and what has arrived is not sent again.
        var before = hub.Requests.Count(static r => r.Path.StartsWith("/storage/", StringComparison.Ordinal));
        _ = Push(hub, isPrivate: false);
        Assert.That(hub.Requests.Count(static r => r.Path.StartsWith("/storage/", StringComparison.Ordinal)), Is.EqualTo(before));
        Assert.That(hub.Created["me/mine"], Is.True);
    }

    [Test]
    public void A_part_that_is_cut_off_is_sent_again()
    {
        var cut = 0;
        using var hub = new FakeHub
        {
            Parts = 30_000,
            Misbehave = (context, _) =>
            {
                if (!context.Request.Url!.AbsolutePath.EndsWith("/2", StringComparison.Ordinal) || Interlocked.Increment(ref cut) > 1)
                {
                    return false;
                }

                FakeHub.Refuse(context, 503);
                return true;
            },
        };
        _ = Push(hub, isPrivate: true);
        Assert.That(cut, Is.EqualTo(2));
        Assert.That(hub.Committed["adapter_model.safetensors"], Is.EqualTo(_large));
    }

    [Test]
    public void A_token_that_may_not_write_or_none_is_told_without_being_shown()
    {
        using var hub = new FakeHub();
        Assert.That(() => Push(hub, isPrivate: true, token: "hf_reader"), Throws.TypeOf<HubRefusedException>().With.Message.Contains("may not write to me/mine").And.Message.Not.Contains("hf_reader"));
        Assert.That(() => Push(hub, isPrivate: true, token: null), Throws.TypeOf<HubRefusedException>().With.Message.Contains("HF_TOKEN"));
        Assert.That(hub.Created, Is.Empty);
    }

    [Test]
    public void A_data_set_has_a_folder_of_its_own_in_the_cache()
    {
        using var hub = new FakeHub { Rows = { ["main data/train.jsonl"] = _large, ["main README.md"] = "x"u8.ToArray() } };
        var settings = Settings(hub, null);
        var listed = HubDownload.List(settings, HubKind.DataSet, "org/rows", "main", CancellationToken.None).Result;
        Assert.That(listed.Files.Select(static f => f.Path), Is.EqualTo(new[] { "data/train.jsonl", "README.md" }));
        var folder = HubDownload.Fetch(settings, HubKind.DataSet, "org/rows", "main", new HubFilter(["data/train.jsonl"], []), null, CancellationToken.None).Result;
        Assert.That(folder, Does.StartWith(_work.At("cache", "datasets--org--rows")));
        Assert.That(File.ReadAllBytes(Path.Combine(folder, "data", "train.jsonl")), Is.EqualTo(_large));
        Assert.That(HubDownload.Find(settings, "org/rows", "main", HubKind.DataSet), Is.EqualTo(folder));
        Assert.That(HubDownload.Find(settings, "org/rows", "main"), Is.Null, "a model of that name is another repository");
    }

    private HubSettings Settings(FakeHub hub, string? token) => new() { Endpoint = hub.Endpoint, CacheFolder = _work.At("cache"), Token = token, FirstWait = TimeSpan.FromMilliseconds(1) };

    private string Push(FakeHub hub, bool isPrivate, string? token = "hf_writer")
    {
        using var upload = new HubUpload(Settings(hub, token), "me/mine", "main");
        HubUploadFile[] files = [HubUploadFile.OfText("README.md", "# card"), .. new[] { "adapter_config.json", "adapter_model.safetensors" }.Select(n => HubUploadFile.Of(n, _work[n])), HubUploadFile.OfText("x.tmp", "left out")];
        return upload.Push(files, isPrivate, "a message", null, CancellationToken.None).GetAwaiter().GetResult();
    }
}
