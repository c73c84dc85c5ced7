using Microsoft.Playwright;
using NUnit.Framework;

namespace OpenWeights.Tune.Page.Tests;

/// <summary>The browser of these tests: a Chromium that is installed here, started once.</summary>
[SetUpFixture]
public sealed class Chromium
{
    private static readonly string[] s_names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome.exe", "msedge.exe"];
    private static IPlaywright? s_playwright;
    private static IBrowser? s_browser;

    /// <summary>The browser; the test is skipped where there is none.</summary>
    internal static IBrowser Browser => s_browser ?? Ignored();

    [OneTimeSetUp]
    public async Task Start()
    {
        s_playwright = await Playwright.CreateAsync();
        var path = Find(s_playwright);
        if (path is not null)
        {
            s_browser = await s_playwright.Chromium.LaunchAsync(new() { ExecutablePath = path });
        }
    }

    [OneTimeTearDown]
    public async Task Stop()
    {
        if (s_browser is not null)
        {
            await s_browser.CloseAsync();
        }

        s_playwright?.Dispose();
    }

    // CHROMIUM names one; else one of the path or of the usual places, or one that Playwright has installed itself.
    private static string? Find(IPlaywright playwright)
    {
        if (Environment.GetEnvironmentVariable("CHROMIUM") is { Length: > 0 } named)
        {
            return File.Exists(named) ? named : throw new FileNotFoundException($"CHROMIUM names {named}, which is not there.");
        }

        var folders = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries);
        string[] places =
        [
            .. folders.SelectMany(static f => s_names.Select(n => Path.Combine(f, n))),
            "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
            "/Applications/Chromium.app/Contents/MacOS/Chromium",
            Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.ProgramFiles), "Google", "Chrome", "Application", "chrome.exe"),
            Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.ProgramFilesX86), "Microsoft", "Edge", "Application", "msedge.exe"),
            playwright.Chromium.ExecutablePath,
        ];
        return places.FirstOrDefault(File.Exists);
    }

    private static IBrowser Ignored()
    {
        Assert.Ignore("needs Chromium, which this machine does not have (Debian's package chromium, or a path in CHROMIUM)");
        throw new InvalidOperationException();
    }
}
