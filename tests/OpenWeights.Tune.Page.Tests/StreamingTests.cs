using System.Text.Json.Nodes;
using Microsoft.Playwright;
using NUnit.Framework;
using static Microsoft.Playwright.Assertions;

namespace OpenWeights.Tune.Page.Tests;

/// <summary>An answer comes piece by piece, can be stopped, and says what went wrong.</summary>
[TestFixture]
internal sealed class StreamingTests : PageTest
{
    [Test]
    public async Task An_answer_is_shown_while_the_rest_of_it_is_still_to_come()
    {
        var rest = new TaskCompletionSource();
        Server.Answer = _ => new Script().Say("The first ", "words").WaitFor(rest.Task).Say(" and the last.").End();
        await Message.FillAsync("Go on.");
        await Message.PressAsync("Enter");

        await Expect(TextOf("base")).ToHaveTextAsync("The first words");
        await Expect(TextOf("base")).ToHaveAttributeAsync("aria-busy", "true");
        rest.SetResult();
        await Expect(TextOf("base")).ToHaveTextAsync("The first words and the last.");
        await Ended();
        await Expect(TextOf("base")).ToHaveAttributeAsync("aria-busy", "false");
        await Expect(AnswersOf("base").Locator(".foot")).ToContainTextAsync("3 tokens");
    }

    [Test]
    public async Task Characters_and_events_that_are_cut_anywhere_are_put_together([Values("\n", "\r", "\r\n")] string lineEnd)
    {
        string[] tokens = ["Grüße ", "🦙🦙 ", "日本語", " \"q\\"];
        Server.Answer = _ => new Script { LineEnd = lineEnd }.Raw($": a comment{lineEnd}{lineEnd}").Say(tokens).End();

        await Ask("Go on.");

        await Expect(TextOf("base")).ToHaveTextAsync(string.Concat(tokens));
        await Expect(Status).ToHaveTextAsync("The answer is complete.");
    }

    [Test]
    public async Task The_data_of_an_event_may_stand_on_several_lines()
    {
        Server.Answer = _ => new Script().Raw("data: {\"choices\":[{\"index\":0,\ndata: \"delta\":{\"content\":\"two lines\"}}]}\n\n").End();

        await Ask("Go on.");

        await Expect(TextOf("base")).ToHaveTextAsync("two lines");
    }

    [Test]
    public async Task Stop_ends_the_request_and_keeps_what_has_come([Values("Stop", "Escape")] string how)
    {
        Server.Answer = _ => new Script().Say("So far").WaitFor(Task.Delay(Timeout.Infinite)).Say(" and never this").End();
        await Message.FillAsync("Go on.");
        await Message.PressAsync("Enter");
        await Expect(TextOf("base")).ToHaveTextAsync("So far");

        await (how == "Stop" ? Button("Stop").ClickAsync() : Page.Keyboard.PressAsync("Escape"));

        await Expect(Status).ToHaveTextAsync("Stopped.");
        await Server.Aborted.Task.WaitAsync(TimeSpan.FromSeconds(30));
        await Expect(TextOf("base")).ToHaveTextAsync("So far");
        await Expect(AnswersOf("base")).ToContainTextAsync("stopped by you");
        await Expect(Button("Stop")).ToBeDisabledAsync();
        await Expect(Message).ToBeFocusedAsync();
    }

    [Test]
    public async Task What_the_server_refuses_is_told_in_one_line()
    {
        Server.Answer = static _ => Script.Refuse(400, "temperature is 7;\n it must be from 0 to 2.");

        await Ask("Go on.");

        await Expect(AnswersOf("base").GetByRole(AriaRole.Alert)).ToHaveTextAsync("temperature is 7; it must be from 0 to 2.", new() { UseInnerText = true });
        await Expect(Status).ToHaveTextAsync("An answer failed.");
    }

    [Test]
    public async Task An_error_within_a_stream_keeps_what_came_before_it()
    {
        Server.Answer = static _ => new Script().Say("Half").Event("{\"error\":{\"message\":\"The model ran out of memory.\"}}");

        await Ask("Go on.");

        await Expect(TextOf("base")).ToHaveTextAsync("Half");
        await Expect(AnswersOf("base").GetByRole(AriaRole.Alert)).ToHaveTextAsync("The model ran out of memory.");
    }

    [Test]
    public async Task A_stream_that_ends_early_is_no_whole_answer()
    {
        Server.Answer = static _ => new Script().Say("Half");

        await Ask("Go on.");

        await Expect(AnswersOf("base").GetByRole(AriaRole.Alert)).ToHaveTextAsync("The connection ended before the answer did.");
    }

    [Test]
    public async Task A_message_that_failed_is_not_part_of_what_is_asked_next()
    {
        Server.Answer = static _ => Script.Refuse(503, "Busy.");
        await Ask("Lost");
        Server.Answer = static _ => Script.Of("Fine");
        await Ask("Kept");

        Assert.That(Server.Requests.Last()["messages"]!.ToJsonString(), Is.EqualTo("""[{"role":"user","content":"Kept"}]"""));
    }

    [Test]
    public async Task A_server_that_wants_a_key_gets_the_one_that_is_written_into_the_field()
    {
        Server.Key = "secret-7";
        await Page.ReloadAsync();
        await Expect(Page.GetByRole(AriaRole.Alert).First).ToContainTextAsync("write it into the field “API key” under Settings");
        await Field("API key").FillAsync("secret-7");
        await Field("API key").PressAsync("Tab");
        await Expect(Field("Model").Locator("option")).ToHaveCountAsync(2);

        await Ask("Go on.");

        await Expect(TextOf("base")).ToHaveTextAsync("Hello.");
        Assert.That(await Page.EvaluateAsync<string>("Object.values(localStorage).join()"), Does.Not.Contain("secret-7"));
        Assert.That(await Page.EvaluateAsync<string>("sessionStorage.getItem('owt.api-key')"), Is.EqualTo("secret-7"));
    }

    [Test]
    public async Task A_request_has_the_settings_that_are_filled_in_and_no_others()
    {
        await Field("System message").FillAsync("Be brief.");
        await Field("Temperature").FillAsync("0.7");
        await Field("Top k").FillAsync("40");
        await Field("Min p").FillAsync("0.05");
        await Field("Seed").FillAsync("11");
        await Field("Most tokens").FillAsync("99");
        await Field("Repetition penalty").FillAsync("1.1");

        await Ask("Go on.");

        var expected = JsonNode.Parse("""
            {"model":"base","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Go on."}],"stream":true,"stream_options":{"include_usage":true},
             "temperature":0.7,"top_k":40,"min_p":0.05,"max_tokens":99,"seed":11,"repetition_penalty":1.1,"logprobs":true,"top_logprobs":5}
            """);
        Assert.That(JsonNode.DeepEquals(Server.Requests.Single(), expected), Is.True, () => Server.Requests.Single().ToJsonString());
    }

    [Test]
    public async Task A_setting_out_of_range_is_told_and_nothing_is_asked()
    {
        await Field("Temperature").FillAsync("7");
        await Message.FillAsync("Go on.");
        await Message.PressAsync("Enter");

        await Expect(Page.GetByRole(AriaRole.Alert)).ToContainTextAsync("Temperature: ");
        await Expect(Field("Temperature")).ToBeFocusedAsync();
        await Expect(Message).ToHaveValueAsync("Go on.");
        Assert.That(Server.Requests, Is.Empty);
    }
}
