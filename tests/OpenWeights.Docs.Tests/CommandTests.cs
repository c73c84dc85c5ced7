using System.CommandLine;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text.RegularExpressions;
using NUnit.Framework;
using OpenWeights.Tune.Cli;

namespace OpenWeights.Docs.Tests;

/// <summary>
/// Every command of the pages (blocks marked <c>sh</c>) is run, in the order of its page and in one folder, as a reader would. What cannot be run here is
/// named below with its reason; what is owt's of it is parsed at least.
/// </summary>
[Platform(Exclude = "Win", Reason = "the commands are run by a POSIX shell")]
internal sealed partial class CommandTests
{
    // Pages that others run: each is in a test of its own.
    private static readonly Dictionary<string, string> s_elsewhere = new()
    {
        ["docs/add-a-family.md"] = "ExtensionTests applies the page to a copy of the sources and runs its commands there",
        ["docs/add-an-objective.md"] = "ExtensionTests applies the page to a copy of the sources and runs its commands there",
    };

    // What a line matches, and why it is not run.
    private static readonly (string Pattern, string Reason)[] s_notRun =
    [
        ("^scripts/test", "it runs these tests"),
        ("^scripts/bench", "minutes of measurements; BenchScriptTests runs it with small models"),
        ("scripts/gpu-check", "needs a GPU"),
        ("^scripts/fuzz", "hours; the tests of each reader read some of the same inputs"),
        ("^OWT_TORCH=", "sets the checkout up for another torch; SetupScriptTests does so in a copy"),
        ("^OWT_LIBTORCH=", "needs another libtorch; TorchRuntimeTests gives a copy"),
        ("^dotnet ", "a build, or a sample, which has a test of its own"),
        ("^scripts/pack", "PackageTests makes the packages and uses them"),
        ("^ollama ", "needs Ollama"),
        (" push ", "writes to the Hub; PushTests does so with one of its own"),
        ("^(mpirun|srun|docker|vllm|llama-|git clone|cd |export )|--ranks|hub://|(device[= ]cuda)", "needs MPI, Docker, another server, the network or a GPU"),
    ];

    private static IEnumerable<TestCaseData> Pages =>
        Page.All.Where(static p => p.Blocks.Any(static b => b.Language == "sh") && !s_elsewhere.ContainsKey(p.Name)).Select(static p => new TestCaseData(p).SetArgDisplayNames(p.Name));

    [TestCaseSource(nameof(Pages))]
    public void The_commands_of_a_page_run_as_they_stand(object given)
    {
        var page = (Page)given;
        using var folder = new PageFolder(FreePort());
        foreach (var block in page.Blocks)
        {
            if (block.File.Length > 0)
            {
                folder.Write(block.File, block.Text);
            }
            else if (block.Language == "sh")
            {
                RunBlock(folder, block, page);
            }
        }
    }

    [Test]
    public void Every_reason_for_not_running_a_line_is_used()
    {
        var lines = Page.All.SelectMany(static p => p.Blocks).Where(static b => b.Language == "sh").SelectMany(Lines).Select(static l => l.Text).ToList();
        Assert.That(s_notRun.SkipLast(1).Where(n => !lines.Any(l => Regex.IsMatch(l, n.Pattern))).Select(static n => n.Pattern), Is.Empty, "no page has such a line any more");
    }

    [Test]
    public void Every_command_that_is_named_in_a_text_exists()
    {
        var known = Commands(CommandLine.Root()).Select(static c => c.Name).ToHashSet();
        var named = Page.All.SelectMany(p => Named().Matches(p.Text).Select(m => (p.Name, Command: m.Groups[1].Value)));
        Assert.That(named.Where(n => !known.Contains(n.Command)).Select(static n => $"{n.Name}: owt {n.Command}").Distinct(), Is.Empty);
    }

    private static void RunBlock(PageFolder folder, CodeBlock block, Page page)
    {
        Process? server = null;
        try
        {
            foreach (var (text, line) in Lines(block))
            {
                var place = $"{page.Name}:{block.Line + line}";
                if (Array.Exists(s_notRun, n => Regex.IsMatch(text, n.Pattern)))
                {
                    Parse(text, place);
                }
                else if (Serves().IsMatch(text))
                {
                    server?.Kill(entireProcessTree: true);
                    server = folder.Start(text);
                    Wait(server, place);
                }
                else if (!text.StartsWith("curl", StringComparison.Ordinal) || PageFolder.RealCurl is not null)
                {
                    folder.Run(text, place);
                }
            }
        }
        finally
        {
            server?.Kill(entireProcessTree: true);
            server?.WaitForExit();
            server?.Dispose();
        }
    }

    // The lines of a block with their numbers, those that end with a backslash joined with the next, without comments.
    private static IEnumerable<(string Text, int Line)> Lines(CodeBlock block)
    {
        var (open, first) = ("", 0);
        foreach (var (number, line) in block.Text.Split('\n').Index())
        {
            var text = Comment().Replace(line, "").Trim();
            if (open.Length == 0)
            {
                first = number;
            }

            if (text.EndsWith('\\'))
            {
                open += text[..^1] + " ";
                continue;
            }

            if ((open + text).Trim() is { Length: > 0 } whole)
            {
                yield return (whole, first + 1);
            }

            open = "";
        }
    }

    private static void Parse(string line, string place)
    {
        if (Owt().Match(line) is { Success: true } found)
        {
            string[] words = [.. Word().Matches(line[(found.Index + found.Length)..]).Select(static m => m.Value.Trim('"', '\''))];
            Assert.That(CommandErrors.Of(CommandLine.Root().Parse(words), words), Is.Empty, $"{place}: {line}");
        }
    }

    private static void Wait(Process server, string place)
    {
        using var client = new HttpClient();
        var address = $"http://127.0.0.1:{Environment.GetEnvironmentVariable("PAGE_PORT") ?? server.StartInfo.Environment["PAGE_PORT"]}/health";
        for (var watch = Stopwatch.StartNew(); ;)
        {
            Assert.That(server.HasExited, Is.False, () => $"{place}: the server ended\n{server.StandardError.ReadToEnd()}");
            Assert.That(watch.Elapsed, Is.LessThan(TimeSpan.FromMinutes(2)), $"{place}: the server did not become ready");
            try
            {
                using var answer = client.Send(new HttpRequestMessage(HttpMethod.Get, address));
                if (answer.StatusCode == HttpStatusCode.OK)
                {
                    return;
                }
            }
            catch (HttpRequestException)
            {
                // It does not listen yet.
            }

            Thread.Sleep(50);
        }
    }

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    private static IEnumerable<Command> Commands(Command command) => [command, .. command.Subcommands.SelectMany(Commands)];

    // From a # at the start of a word on; none of the pages has one within quotes.
    [GeneratedRegex(@"(^|\s)#.*$")]
    private static partial Regex Comment();

    [GeneratedRegex(@"^\S*owt serve ")]
    private static partial Regex Serves();

    // Also behind the program that starts it, such as mpirun.
    [GeneratedRegex(@"(?:^|\s)(?:scripts/)?owt ")]
    private static partial Regex Owt();

    [GeneratedRegex("""(?:"[^"]*"|'[^']*'|[^\s"'])+""")]
    private static partial Regex Word();

    [GeneratedRegex("`(?:scripts/)?owt ([a-z]+)[ `]")]
    private static partial Regex Named();
}
