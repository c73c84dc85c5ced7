using System.Text.RegularExpressions;
using Microsoft.Playwright;
using NUnit.Framework;
using static Microsoft.Playwright.Assertions;

namespace OpenWeights.Tune.Page.Tests;

/// <summary>The tokens of an answer and how likely they were.</summary>
[TestFixture]
internal sealed class TokenTests : PageTest
{
    private ILocator Tokens => Page.GetByRole(AriaRole.Option).And(Page.Locator(".token"));

    private ILocator Tip => Page.GetByRole(AriaRole.Tooltip);

    [SetUp]
    public async Task Shows_tokens()
    {
        Server.Answer = static _ => Script.Of("A", " rare", " case\n", "\uFFFD");
        await Ask("Go on.");
        await Page.GetByRole(AriaRole.Checkbox, new() { Name = "Show answers as tokens, coloured by probability" }).CheckAsync();
    }

    [Test]
    public async Task A_token_under_the_pointer_shows_its_probability_and_the_others()
    {
        await Tokens.Nth(1).HoverAsync();

        await Expect(Tip.Locator("div")).ToHaveTextAsync(["␣rare 50.0 % ", "other 4.0 % "]);
        await Page.Mouse.MoveAsync(1, 1);
        await Expect(Tip).ToBeHiddenAsync();
    }

    [Test]
    public async Task Tokens_are_coloured_by_how_likely_they_were()
    {
        var colours = await Tokens.EvaluateAllAsync<string[]>("all => all.map(t => getComputedStyle(t).backgroundColor)");

        Assert.That(colours.Take(3).Distinct().Count(), Is.EqualTo(3), string.Join(", ", colours));
        Assert.That(colours[3], Is.EqualTo(colours[0]), "the fourth is as likely as the first");
        await Expect(Tokens).ToHaveTextAsync([new Regex("^A$"), new Regex("^ rare$"), new Regex("^ case↵\\n$"), new Regex("^⟨EF⟩⟨BF⟩⟨BD⟩$")]);
    }

    [Test]
    public async Task The_arrow_keys_go_from_token_to_token()
    {
        var list = Page.GetByRole(AriaRole.Listbox, new() { Name = "Tokens of the answer of base" });
        await Page.Locator("#show-tokens").FocusAsync();
        await Page.Keyboard.PressAsync("Tab");
        await Expect(list).ToBeFocusedAsync();
        await Expect(Tip.Locator(".chosen")).ToContainTextAsync("90.0 %");

        await Page.Keyboard.PressAsync("ArrowRight");
        await Page.Keyboard.PressAsync("ArrowRight");
        await Expect(Tip.Locator(".chosen")).ToContainTextAsync("5.0 %");
        var selected = list.GetByRole(AriaRole.Option, new() { Selected = true });
        await Expect(selected).ToHaveAccessibleNameAsync("case↵");
        await Expect(selected).ToHaveAccessibleDescriptionAsync("5.0 %; other tokens: other 4.0 %");
        var active = await list.GetAttributeAsync("aria-activedescendant");
        Assert.That(await Tokens.Nth(2).GetAttributeAsync("id"), Is.EqualTo(active));
        await Page.Keyboard.PressAsync("End");
        await Page.Keyboard.PressAsync("ArrowRight");
        await Expect(Tokens.Nth(3)).ToHaveAttributeAsync("aria-selected", "true");
        await Page.Keyboard.PressAsync("Escape");
        await Expect(Tip).ToBeHiddenAsync();
    }

    [Test]
    public async Task Without_tokens_the_answer_is_text_again()
    {
        await Page.Locator("#show-tokens").UncheckAsync();

        await Expect(TextOf("base")).ToBeVisibleAsync();
        await Expect(Page.GetByRole(AriaRole.Listbox, new() { Name = "Tokens of the answer of base" })).ToHaveCountAsync(0);
    }

    [Test]
    public async Task Tokens_that_come_while_they_are_shown_are_added()
    {
        var rest = new TaskCompletionSource();
        Server.Answer = _ => new Script().Say("one").WaitFor(rest.Task).Say(" two").End();
        await Message.FillAsync("More.");
        await Message.PressAsync("Enter");
        await Expect(AnswersOf("base").Last.Locator(".token")).ToHaveTextAsync(["one"]);
        rest.SetResult();
        await Expect(AnswersOf("base").Last.Locator(".token")).ToHaveTextAsync(["one", " two"]);
        await Ended();
    }
}
