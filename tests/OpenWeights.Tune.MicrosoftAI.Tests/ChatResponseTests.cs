using System.Text.Json;
using Microsoft.Extensions.AI;
using NUnit.Framework;
using OpenWeights.Tune.Answering;

namespace OpenWeights.Tune.MicrosoftAI.Tests;

/// <summary>What happens while an answer is generated becomes what Microsoft.Extensions.AI and its own clients over this one expect.</summary>
[TestFixture]
internal sealed class ChatResponseTests
{
    [Test]
    public async Task A_response_has_the_text_the_reasoning_the_usage_and_the_reason_of_its_end()
    {
        var scripted = new ScriptedAnswers([new ReasoningPiece("Let me "), new ReasoningPiece("think."), new ContentPiece("Fo"), new ContentPiece("ur.")]);
        var response = await scripted.Client().GetResponseAsync("2 + 2?");

        Assert.Multiple(() =>
        {
            Assert.That(response.Text, Is.EqualTo("Four."));
            Assert.That(response.Messages.Single().Contents.OfType<TextReasoningContent>().Single().Text, Is.EqualTo("Let me think."));
            Assert.That((response.FinishReason, response.ModelId), Is.EqualTo(((ChatFinishReason?)ChatFinishReason.Stop, "scripted")));
            var usage = response.Usage!;
            Assert.That((usage.InputTokenCount, usage.OutputTokenCount, usage.TotalTokenCount, usage.CachedInputTokenCount, usage.ReasoningTokenCount), Is.EqualTo(((long?)11, (long?)5, (long?)16, (long?)3, (long?)2)));
        });
    }

    [Test]
    public async Task Updates_come_one_by_one_and_are_of_one_message()
    {
        var updates = await new ScriptedAnswers([new ContentPiece("Fo"), new ContentPiece("ur.")]).Client().GetStreamingResponseAsync("2 + 2?").ToListAsync();

        Assert.That(updates.Select(static u => u.Text), Is.EqualTo(new[] { "Fo", "ur.", "" }));
        Assert.That(updates.Select(static u => (u.ResponseId, u.MessageId, u.Role)).Distinct().Count(), Is.EqualTo(1));
        Assert.That(updates[0].RawRepresentation, Is.InstanceOf<AnswerDelta>());
    }

    [Test]
    public async Task Calls_of_functions_that_came_in_pieces_are_whole()
    {
        var scripted = new ScriptedAnswers([new ToolCallPiece(0, "a", "weather", "{\"ci"), new ToolCallPiece(0, null, null, "ty\":\"Paris\"}"), new ToolCallPiece(1, "b", "now", "")]);
        var response = await scripted.Client().GetResponseAsync("Weather?");

        var calls = response.Messages.Single().Contents.OfType<FunctionCallContent>().ToList();
        Assert.That(calls.Select(static c => (c.CallId, c.Name, JsonSerializer.Serialize(c.Arguments))), Is.EqualTo(new[] { ("a", "weather", "{\"city\":\"Paris\"}"), ("b", "now", "{}") }));
        Assert.That(response.FinishReason, Is.EqualTo(ChatFinishReason.ToolCalls));
    }

    [Test]
    public async Task Arguments_that_are_no_json_are_the_calls_exception()
    {
        var response = await new ScriptedAnswers([new ToolCallPiece(0, "a", "weather", "{\"city\":")]).Client().GetResponseAsync("Weather?");

        Assert.That(response.Messages.Single().Contents.OfType<FunctionCallContent>().Single().Exception, Is.Not.Null);
    }

    [Test]
    public async Task Functions_are_called_and_their_results_told([Values] bool isStreamed)
    {
        var scripted = new ScriptedAnswers(
            [new ContentPiece("Let me see."), new ToolCallPiece(0, "a", "add", "{\"left\":2,\"right\":3}"), new ToolCallPiece(1, "b", "add", "{\"left\":20,\"right\":30}")],
            [new ContentPiece("5 and 50.")]);
        var client = scripted.Client().AsBuilder().UseFunctionInvocation().Build();
        var options = new ChatOptions { Tools = [AIFunctionFactory.Create((int left, int right) => left + right, "add")] };

        var response = isStreamed ? await client.GetStreamingResponseAsync("Add.", options).ToChatResponseAsync() : await client.GetResponseAsync("Add.", options);

        Assert.That(response.Messages[^1].Text, Is.EqualTo("5 and 50."));
        var told = scripted.Requests[1].Messages!;
        Assert.That(told.Select(static m => m!["role"]!.GetValue<string>()), Is.EqualTo(new[] { "user", "assistant", "tool", "tool" }));
        Assert.That(told.Skip(2).Select(static m => (m!["tool_call_id"]!.GetValue<string>(), m["content"]!.GetValue<string>())), Is.EqualTo(new[] { ("a", "5"), ("b", "50") }));
        Assert.That(told[1]!["content"]!.GetValue<string>(), Is.EqualTo("Let me see."));
    }

    [Test]
    public async Task A_response_of_a_type_asks_for_its_schema_and_is_read_back()
    {
        var scripted = new ScriptedAnswers([new ContentPiece("{\"name\":\"Ada\","), new ContentPiece("\"age\":36}")]);
        var response = await scripted.Client().GetResponseAsync<Person>("A person.");

        Assert.That(response.Result, Is.EqualTo(new Person("Ada", 36)));
        var format = scripted.Requests[0].Format;
        Assert.That(format.Kind, Is.EqualTo(AnswerFormatKind.JsonSchema));
        Assert.That(format.Schema!["properties"]!["age"]!["type"]!.GetValue<string>(), Is.EqualTo("integer"));
    }

    [Test]
    public void A_cancelled_response_ends()
    {
        using var stop = new CancellationTokenSource();
        var client = new ScriptedAnswers([new ContentPiece("a"), new ContentPiece("b")]).Client();

        Assert.That(async () =>
        {
            await foreach (var update in client.GetStreamingResponseAsync("x", cancellationToken: stop.Token))
            {
                await stop.CancelAsync();
            }
        }, Throws.InstanceOf<OperationCanceledException>());
    }

    [Test]
    public void Services_are_found_by_their_type()
    {
        var client = new ScriptedAnswers([]).Client();

        Assert.That(client.GetService(typeof(IChatClient)), Is.SameAs(client));
        Assert.That(client.GetService<OpenWeightsChatClient>(), Is.SameAs(client));
        Assert.That(client.GetService<ChatClientMetadata>() is { ProviderName: "openweights", DefaultModelId: "scripted" });
        Assert.That(client.GetService(typeof(IChatClient), "key"), Is.Null);
        Assert.That(client.GetService<string>(), Is.Null);
    }

    internal sealed record Person(string Name, int Age);
}
