using Deque.AxeCore.Playwright;
using Microsoft.Playwright;
using NUnit.Framework;
using static Microsoft.Playwright.Assertions;

namespace OpenWeights.Tune.Page.Tests;

/// <summary>The page is used with a keyboard and a screen reader, in light and dark colours, and on narrow screens.</summary>
[TestFixture(ColorScheme.Light, 1280)]
[TestFixture(ColorScheme.Dark, 1280)]
[TestFixture(ColorScheme.Light, 360)]
[TestFixture(ColorScheme.Dark, 360)]
internal sealed class AccessibilityTests(ColorScheme scheme, int width) : PageTest
{
    protected override BrowserNewContextOptions Options => new() { ColorScheme = scheme, ViewportSize = new() { Width = width, Height = 800 } };

    [Test]
    public async Task Axe_finds_nothing_wrong_with_the_empty_page() => await RequireNoViolation();

    [Test]
    public async Task Axe_finds_nothing_wrong_with_answers_of_every_kind()
    {
        await Page.Locator("#settings-fold").EvaluateAsync("fold => fold.open = true");
        await Field("Beside it").SelectOptionAsync("mine");
        Server.Answer = static request => request["model"]!.GetValue<string>() == "mine"
            ? Script.Refuse(400, "No.")
            : new Script().Reason("Hm.").Say("# Title\n\n> quote\n\n- [link](https://example.org)\n\n| a |\n| - |\n| 1 |\n\n```c\nint x;\n```\n\n`code` ~~gone~~").Call(0, "1", "tool", "{}").End();
        await Ask("Go on.");
        await AnswersOf("base").GetByText("Reasoning", new() { Exact = true }).ClickAsync();
        await RequireNoViolation();

        await Field("Beside it").SelectOptionAsync("");
        Server.Answer = static _ => Script.Of("one", " two", " three", " four");
        await Page.Locator("#show-tokens").CheckAsync();
        await Ask("More.");
        await AnswersOf("base").Last.Locator(".token").Nth(1).HoverAsync();
        await Expect(Page.GetByRole(AriaRole.Tooltip)).ToBeVisibleAsync();
        await RequireNoViolation();
    }

    [Test]
    public async Task Nothing_is_wider_than_the_screen()
    {
        await Field("Beside it").SelectOptionAsync("mine");
        Server.Answer = static _ => Script.Of("```\n" + new string('x', 300) + "\n```\n\n" + new string('w', 300) + "\n\n| " + new string('t', 300) + " | b |\n| - | - |\n");
        await Ask(new string('m', 300));

        var (wide, screen) = (await Page.EvaluateAsync<int>("document.documentElement.scrollWidth"), await Page.EvaluateAsync<int>("document.documentElement.clientWidth"));
        Assert.That(wide, Is.LessThanOrEqualTo(screen));
    }

    [Test]
    public async Task The_colours_are_those_that_the_browser_prefers_until_others_are_chosen()
    {
        var dark = scheme == ColorScheme.Dark;
        var theme = Page.GetByRole(AriaRole.Button, new() { Name = "Dark colours", Pressed = dark });
        Assert.That(await IsDark(), Is.EqualTo(dark));
        await theme.ClickAsync();
        Assert.That(await IsDark(), Is.EqualTo(!dark));
        await Page.ReloadAsync();
        Assert.That(await IsDark(), Is.EqualTo(!dark), "it is remembered");
        await Expect(Page.GetByRole(AriaRole.Button, new() { Name = "Dark colours", Pressed = !dark })).ToBeVisibleAsync();
    }

    [Test]
    public async Task A_conversation_needs_no_pointer()
    {
        await Page.ReloadAsync();
        await Expect(Message).ToBeFocusedAsync();
        await Page.Keyboard.TypeAsync("first line");
        await Page.Keyboard.PressAsync("Shift+Enter");
        await Page.Keyboard.TypeAsync("second line");
        await Page.Keyboard.PressAsync("Enter");
        await Ended();
        await Expect(Page.Locator(".user")).ToHaveTextAsync("first line\nsecond line", new() { UseInnerText = true });
        await Expect(Message).ToBeFocusedAsync();

        await Page.Keyboard.PressAsync("Tab");
        await Expect(Button("Send")).ToBeFocusedAsync();
        await Page.Keyboard.PressAsync("Tab"); // Stop is disabled: the next is Regenerate
        await Expect(Button("Regenerate")).ToBeFocusedAsync();
        await Page.Keyboard.PressAsync("Tab");
        await Page.Keyboard.PressAsync("Enter");
        await Expect(Message).ToBeFocusedAsync();
        await Page.Keyboard.PressAsync("Control+A");
        await Page.Keyboard.TypeAsync("anew");
        await Page.Keyboard.PressAsync("Enter");
        await Ended();
        await Expect(Page.Locator(".user")).ToHaveTextAsync("anew");
    }

    [Test]
    public async Task The_first_stop_of_the_tab_key_leads_to_the_message()
    {
        await Page.EvaluateAsync("document.activeElement.blur()");
        await Page.Locator("body").EvaluateAsync("body => { body.tabIndex = -1; body.focus(); body.removeAttribute('tabindex'); }");
        await Page.Keyboard.PressAsync("Tab");
        await Expect(Page.GetByRole(AriaRole.Link, new() { Name = "Skip to the message field" })).ToBeFocusedAsync();
        await Expect(Page.GetByRole(AriaRole.Link, new() { Name = "Skip to the message field" })).ToBeInViewportAsync();
        await Page.Keyboard.PressAsync("Enter");
        await Expect(Message).ToBeFocusedAsync();
    }

    [Test]
    public async Task A_screen_reader_finds_the_parts_by_their_names()
    {
        await Ask("Go on.");

        await Expect(Page.Locator("body")).ToMatchAriaSnapshotAsync("""
            - link "Skip to the message field"
            - banner:
              - heading "OpenWeights Tune" [level=1]
              - group "Models":
                - combobox "Model"
                - combobox "Beside it"
              - button "Dark colours"
            - complementary "Settings":
              - group
            - main:
              - region "Conversation":
                - article "Message 1 and answers":
                  - paragraph: Go on.
                  - group "Answer of base":
                    - heading "base" [level=2]
                    - paragraph: Hello.
                    - button "Copy"
              - form "Your message":
                - textbox "Message"
                - button "Send"
                - button "Stop" [disabled]
                - button "Regenerate"
                - button "Edit last message"
                - button "Export"
                - button "New conversation"
                - paragraph:
                  - status: The answer is complete.
            """);
        await Expect(TextOf("base")).ToHaveAttributeAsync("aria-live", "polite");
    }

    private async Task RequireNoViolation()
    {
        var result = await Page.RunAxe();
        Assert.That(result.Violations.Select(static v => $"{v.Id}: {v.Help}: {string.Join("; ", v.Nodes.Select(static n => n.Html))}"), Is.Empty);
    }

    private async Task<bool> IsDark()
    {
        var colour = await Page.EvaluateAsync<string>("getComputedStyle(document.body).backgroundColor");
        return colour == "rgb(22, 24, 28)" || (colour == "rgb(255, 255, 255)" ? false : throw new AssertionException(colour));
    }
}
