using System.Text.Json.Nodes;
using Microsoft.Playwright;
using NUnit.Framework;
using static Microsoft.Playwright.Assertions;

namespace OpenWeights.Tune.Page.Tests;

/// <summary>Turns, two models side by side, tools, and the buttons below the message.</summary>
[TestFixture]
internal sealed class ConversationTests : PageTest
{
    [SetUp]
    public void Names_its_model() => Server.Answer = static request => Script.Of(request["model"]!.GetValue<string>(), " answers ", request["messages"]!.AsArray()[^1]!["content"]!.GetValue<string>());

    [Test]
    public async Task Two_models_answer_the_same_message_side_by_side()
    {
        await Field("Beside it").SelectOptionAsync("mine");

        await Ask("one");

        await Expect(TextOf("base")).ToHaveTextAsync("base answers one");
        await Expect(TextOf("mine")).ToHaveTextAsync("mine answers one");
        var (left, right) = (await AnswersOf("base").BoundingBoxAsync(), await AnswersOf("mine").BoundingBoxAsync());
        Assert.That(left!.X + left.Width, Is.LessThan(right!.X), "the columns stand beside each other");
        Assert.That(left.Y, Is.EqualTo(right.Y).Within(1));
    }

    [Test]
    public async Task Each_of_two_models_goes_on_with_its_own_answers()
    {
        await Field("Beside it").SelectOptionAsync("mine");
        await Ask("one");
        await Ask("two");

        var asked = Server.Requests.TakeLast(2).ToDictionary(static r => r["model"]!.GetValue<string>(), static r => r["messages"]!.AsArray().Select(static m => m!["content"]!.GetValue<string>()));
        Assert.Multiple(() =>
        {
            Assert.That(asked["base"], Is.EqualTo(new[] { "one", "base answers one", "two" }));
            Assert.That(asked["mine"], Is.EqualTo(new[] { "one", "mine answers one", "two" }));
        });
    }

    [Test]
    public async Task Where_one_of_two_fails_the_other_answers_all_the_same()
    {
        Server.Answer = static request => request["model"]!.GetValue<string>() == "mine" ? Script.Refuse(404, "There is no model 'mine'.") : Script.Of("Fine");
        await Field("Beside it").SelectOptionAsync("mine");

        await Ask("one");

        await Expect(TextOf("base")).ToHaveTextAsync("Fine");
        await Expect(AnswersOf("mine").GetByRole(AriaRole.Alert)).ToHaveTextAsync("There is no model 'mine'.");
    }

    [Test]
    public async Task The_report_of_a_run_is_linked_where_the_server_has_one()
    {
        Server.Models = [new JsonObject { ["id"] = "base" }, new JsonObject { ["id"] = "mine", ["parent"] = "base", ["report"] = "/reports/mine" }, new JsonObject { ["id"] = "odd", ["report"] = "//example.org/x" }];
        await Page.ReloadAsync();
        var link = Page.GetByRole(AriaRole.Link, new() { Name = "Report of its run" });
        await Expect(Field("Model").Locator("option")).ToHaveTextAsync(["base", "mine (adapter)", "odd"]);
        await Expect(link).ToHaveCountAsync(0);

        await Field("Model").SelectOptionAsync("mine");
        await Expect(link).ToHaveAttributeAsync("href", "/reports/mine");
        await Field("Model").SelectOptionAsync("odd");
        await Expect(link).ToHaveCountAsync(0);
    }

    [Test]
    public async Task Regenerate_asks_the_same_again_and_replaces_the_answer()
    {
        await Ask("one");
        Server.Answer = static _ => Script.Of("another answer");
        await Button("Regenerate").ClickAsync();
        await Expect(TextOf("base")).ToHaveTextAsync("another answer");

        await Expect(AnswersOf("base")).ToHaveCountAsync(1);
        Assert.That(JsonNode.DeepEquals(Server.Requests.First(), Server.Requests.Last()), Is.True);
    }

    [Test]
    public async Task The_last_message_can_be_edited_and_asked_again()
    {
        await Ask("one");
        await Ask("tow");
        await Button("Edit last message").ClickAsync();
        await Expect(Message).ToHaveValueAsync("tow");
        await Ask("two");

        await Expect(Page.Locator(".user")).ToHaveTextAsync(["one", "two"]);
        Assert.That(Server.Requests.Last()["messages"]!.AsArray().Select(static m => m!["content"]!.GetValue<string>()), Is.EqualTo(new[] { "one", "base answers one", "two" }));
    }

    [Test]
    public async Task Escape_leaves_the_last_message_as_it_was()
    {
        await Ask("one");
        await Button("Edit last message").ClickAsync();
        await Message.PressAsync("Escape");

        await Expect(Message).ToHaveValueAsync("");
        await Expect(Page.Locator(".user")).ToHaveTextAsync(["one"]);
    }

    [Test]
    public async Task A_new_conversation_forgets_the_old_one()
    {
        await Ask("one");
        await Button("New conversation").ClickAsync();
        await Ask("two");

        await Expect(Page.Locator(".user")).ToHaveTextAsync(["two"]);
        Assert.That(Server.Requests.Last()["messages"]!.AsArray(), Has.Count.EqualTo(1));
    }

    [Test]
    public async Task Copy_takes_the_answer_as_the_model_wrote_it()
    {
        await Page.Context.GrantPermissionsAsync(["clipboard-read", "clipboard-write"]);
        Server.Answer = static _ => Script.Of("**bold**\n\n```\ncode\n```");
        await Ask("one");

        await Button("Copy").ClickAsync();
        await Expect(Status).ToHaveTextAsync("Copied.");
        Assert.That(await Page.EvaluateAsync<string>("navigator.clipboard.readText()"), Is.EqualTo("**bold**\n\n```\ncode\n```"));
        await Button("Copy code").ClickAsync();
        await Page.WaitForFunctionAsync("async () => await navigator.clipboard.readText() === 'code'");
    }

    [Test]
    public async Task Reasoning_is_folded_and_no_part_of_the_answer()
    {
        Server.Answer = static _ => new Script().Reason("Let me ").Reason("think.").Say("Four.").End();
        await Ask("2 + 2?");

        await Expect(TextOf("base")).ToHaveTextAsync("Four.");
        await Expect(Page.GetByText("Let me think.")).ToBeHiddenAsync();
        await Page.GetByText("Reasoning", new() { Exact = true }).ClickAsync();
        await Expect(Page.GetByText("Let me think.")).ToBeVisibleAsync();
        await Ask("And?");
        Assert.That(Server.Requests.Last()["messages"]!.ToJsonString(), Does.Not.Contain("think"));
    }

    [Test]
    public async Task A_tool_that_is_called_is_shown_and_its_result_sent_back()
    {
        Server.Answer = static _ => new Script().Call(0, "call_1", "weather", "{\"ci", "ty\":\"Par", "is\"}").End("tool_calls");
        const string Tools = """[{"type":"function","function":{"name":"weather","parameters":{"type":"object"}}}]""";
        await Field("Tools (a JSON list)").FillAsync(Tools);
        await Ask("What is the weather?");
        await Expect(AnswersOf("base")).ToContainTextAsync("Calls the tool weather");
        await Expect(AnswersOf("base").Locator("pre")).ToHaveTextAsync("{\n  \"city\": \"Paris\"\n}");
        Assert.That(Server.Requests.Last()["tools"]!.ToJsonString(), Is.EqualTo(Tools));

        Server.Answer = static _ => Script.Of("It rains.");
        await Field("Result of weather").FillAsync("rain");
        await Button("Send the result").ClickAsync();
        await Expect(TextOf("base")).ToHaveTextAsync("It rains.");

        Assert.That(Server.Requests.Last()["messages"]!.ToJsonString(), Is.EqualTo(
            """[{"role":"user","content":"What is the weather?"},{"role":"assistant","content":"","tool_calls":[{"id":"call_1","type":"function","function":{"name":"weather","arguments":"{\u0022city\u0022:\u0022Paris\u0022}"}}]},{"role":"tool","tool_call_id":"call_1","content":"rain"}]"""));
    }

    [Test]
    public async Task Tools_that_are_no_list_are_told_before_anything_is_asked()
    {
        await Field("Tools (a JSON list)").FillAsync("{");
        await Message.FillAsync("Go on.");
        await Message.PressAsync("Enter");

        await Expect(Page.GetByRole(AriaRole.Alert)).ToContainTextAsync("Tools must be a JSON list");
        Assert.That(Server.Requests, Is.Empty);
    }

    [Test]
    public async Task The_conversation_is_exported_as_rows_of_chats_one_for_each_column()
    {
        await Field("System message").FillAsync("Be brief.");
        await Field("Beside it").SelectOptionAsync("mine");
        await Ask("one");
        await Ask("two");

        var download = await Page.RunAndWaitForDownloadAsync(() => Button("Export").ClickAsync());
        var lines = await File.ReadAllLinesAsync(await download.PathAsync());

        Assert.That(download.SuggestedFilename, Is.EqualTo("conversation.jsonl"));
        Assert.That(lines, Is.EqualTo(new[] { Row("base"), Row("mine") }));
        static string Row(string model) =>
            $$"""{"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"one"},{"role":"assistant","content":"{{model}} answers one"},{"role":"user","content":"two"},{"role":"assistant","content":"{{model}} answers two"}]}""";
    }
}
