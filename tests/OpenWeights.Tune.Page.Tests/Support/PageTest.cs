using System.Collections.Concurrent;
using Microsoft.Playwright;
using NUnit.Framework;
using static Microsoft.Playwright.Assertions;

namespace OpenWeights.Tune.Page.Tests;

/// <summary>A test with the page open in a browser over a scripted server. Whatever it does, no request may leave the server, and nothing may fail in the page.</summary>
[FixtureLifeCycle(LifeCycle.InstancePerTestCase)]
internal abstract class PageTest
{
    private readonly ConcurrentQueue<string> _requests = [];
    private readonly ConcurrentQueue<string> _failures = [];

    internal ScriptedServer Server { get; private set; } = null!;

    internal IPage Page { get; private set; } = null!;

    /// <summary>What the browser prefers.</summary>
    protected virtual BrowserNewContextOptions Options => new() { ViewportSize = new() { Width = 1280, Height = 900 } };

    protected ILocator Message => Page.GetByRole(AriaRole.Textbox, new() { Name = "Message", Exact = true });

    protected ILocator Status => Page.GetByRole(AriaRole.Status);

    [SetUp]
    public async Task Open()
    {
        var browser = Chromium.Browser;
        Server = await ScriptedServer.StartAsync();
        var context = await browser.NewContextAsync(Options);
        Page = await context.NewPageAsync();
        Page.Request += (_, request) => _requests.Enqueue(request.Url);
        Page.PageError += (_, error) => _failures.Enqueue(error);
        Page.Console += (_, message) =>
        {
            // Chromium writes each answer of 4xx and each broken connection there too; these the page tells itself.
            if (message.Type == "error" && !message.Text.StartsWith("Failed to load resource", StringComparison.Ordinal))
            {
                _failures.Enqueue(message.Text);
            }
        };
        await Page.GotoAsync(Server.Url);
        await Expect(Page.Locator("#model-1 option").First).ToBeAttachedAsync();
    }

    [TearDown]
    public async Task Close()
    {
        if (Server is null)
        {
            return;
        }

        await Page.Context.CloseAsync();
        await Server.DisposeAsync();
        Assert.Multiple(() =>
        {
            Assert.That(_requests.Where(url => !url.StartsWith(Server.Url + "/", StringComparison.Ordinal) && !url.StartsWith("data:", StringComparison.Ordinal) && !url.StartsWith("blob:" + Server.Url, StringComparison.Ordinal)), Is.Empty, "requests to elsewhere");
            Assert.That(_failures, Is.Empty, "errors in the page");
        });
    }

    protected ILocator Button(string name) => Page.GetByRole(AriaRole.Button, new() { Name = name, Exact = true });

    protected ILocator Field(string name) => Page.GetByLabel(name, new() { Exact = true });

    /// <summary>The answers of a model, oldest first.</summary>
    protected ILocator AnswersOf(string model) => Page.GetByRole(AriaRole.Group, new() { Name = "Answer of " + model, Exact = true });

    protected ILocator TextOf(string model) => AnswersOf(model).Last.Locator(".text");

    /// <summary>Sends a message and waits until the page says that its answers have ended.</summary>
    protected async Task Ask(string text)
    {
        await Message.FillAsync(text);
        await Message.PressAsync("Enter");
        await Ended();
    }

    protected async Task Ended() => await Expect(Status).ToHaveTextAsync(new System.Text.RegularExpressions.Regex("complete|failed|Stopped"));

    /// <summary>Lets the server answer with this Markdown, asks, and gives the place of the answer's text.</summary>
    protected async Task<ILocator> Answered(string markdown)
    {
        Server.Answer = _ => Script.Of(markdown);
        await Ask("Go on.");
        return TextOf("base");
    }
}
