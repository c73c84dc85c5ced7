using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.Extensions.AI;
using NUnit.Framework;
using OpenWeights.Tune.Answering;
using OpenWeights.Tune.Decoding;

namespace OpenWeights.Tune.MicrosoftAI.Tests;

/// <summary>Messages and options of Microsoft.Extensions.AI become a request of the library.</summary>
[TestFixture]
internal sealed class ChatRequestTests
{
    [Test]
    public async Task Every_option_has_its_setting()
    {
        var request = await Asked(new ChatOptions
        {
            ModelId = "mine",
            Instructions = "Be brief.",
            Temperature = 0.7f,
            TopP = 0.9f,
            TopK = 40,
            MaxOutputTokens = 99,
            Seed = 11,
            PresencePenalty = 0.1f,
            FrequencyPenalty = 0.2f,
            StopSequences = ["###", "END"],
            AllowMultipleToolCalls = false,
            AdditionalProperties = new()
            {
                ["min_p"] = 0.05f,
                ["repetition_penalty"] = 1.1,
                ["top_logprobs"] = 3,
                ["ignore_eos"] = true,
                ["chat_template_kwargs"] = new JsonObject { ["enable_thinking"] = false },
                ["of another maker"] = "x",
            },
        });

        Assert.Multiple(() =>
        {
            Assert.That(request.Options, Is.EqualTo(new GenerationOptions
            {
                Temperature = 0.7,
                TopP = 0.9,
                TopK = 40,
                MinP = 0.05,
                Seed = 11,
                PresencePenalty = 0.1,
                FrequencyPenalty = 0.2,
                RepetitionPenalty = 1.1,
                LogProbs = true,
                TopLogProbs = 3,
                LogitBias = request.Options.LogitBias,
                EndTokens = request.Options.EndTokens,
            }));
            Assert.That((request.Model, request.MaxNewTokens, request.IgnoresEnd, request.ParallelToolCalls), Is.EqualTo(("mine", (int?)99, true, false)));
            Assert.That(request.Stops, Is.EqualTo(new[] { "###", "END" }));
            Assert.That(request.TemplateValues!.ToJsonString(), Is.EqualTo("""{"enable_thinking":false}"""));
            Assert.That(request.Messages!.ToJsonString(), Is.EqualTo("""[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}]"""));
        });
    }

    [Test]
    public async Task Without_options_a_request_samples_at_temperature_1_with_a_new_seed_each_time()
    {
        var (one, other) = (await Asked(null), await Asked(null));

        Assert.That((one.Model, one.Options.Temperature, one.MaxNewTokens, one.Format, one.ToolChoice), Is.EqualTo(("scripted", 1.0, (int?)null, AnswerFormat.Free, ToolChoice.Auto)));
        Assert.That(one.Options.Seed, Is.Not.EqualTo(other.Options.Seed));
    }

    [Test]
    public async Task A_raw_request_is_what_options_are_added_to()
    {
        var raw = new AnswerRequest { Format = AnswerFormat.Gbnf("root ::= \"yes\""), Options = new GenerationOptions { TopK = 5, MinP = 0.5 } };
        var request = await Asked(new ChatOptions { RawRepresentationFactory = _ => raw, TopK = 7 });

        Assert.That((request.Format, request.Options.TopK, request.Options.MinP), Is.EqualTo((raw.Format, 7, 0.5)));
    }

    [Test]
    public async Task Functions_are_tools_with_their_schema()
    {
        var function = AIFunctionFactory.Create((string city, int days = 1) => "", "forecast", "The weather to come.");
        var tool = (await Asked(new ChatOptions { Tools = [function] })).Tools!.Single()!["function"]!;

        Assert.Multiple(() =>
        {
            Assert.That((tool["name"]!.GetValue<string>(), tool["description"]!.GetValue<string>()), Is.EqualTo(("forecast", "The weather to come.")));
            Assert.That(tool["parameters"]!["properties"]!["city"]!["type"]!.GetValue<string>(), Is.EqualTo("string"));
            Assert.That(tool["parameters"]!["properties"]!["days"]!["default"]!.GetValue<int>(), Is.EqualTo(1));
            Assert.That(tool["parameters"]!["required"]!.ToJsonString(), Is.EqualTo("""["city"]"""));
        });
    }

    [Test]
    public async Task The_mode_of_tools_is_the_choice_of_tools()
    {
        var tools = new ChatOptions { Tools = [AIFunctionFactory.Create(() => 1, "one"), AIFunctionFactory.Create(() => 2, "two")] };
        async Task<ToolChoice> Choice(ChatToolMode mode) => (await Asked(new ChatOptions { Tools = tools.Tools, ToolMode = mode })).ToolChoice;

        Assert.That(await Choice(ChatToolMode.Auto), Is.EqualTo(ToolChoice.Auto));
        Assert.That(await Choice(ChatToolMode.None), Is.EqualTo(ToolChoice.None));
        Assert.That(await Choice(ChatToolMode.RequireAny), Is.EqualTo(ToolChoice.Required));
        Assert.That(await Choice(ChatToolMode.RequireSpecific("two")), Is.EqualTo(ToolChoice.Function("two")));
        Assert.That(() => Choice(ChatToolMode.RequireSpecific("three")), Throws.ArgumentException.With.Message.Contains("'three', which is not in Tools: one, two"));
        Assert.That(() => Asked(new ChatOptions { ToolMode = ChatToolMode.RequireAny }), Throws.ArgumentException.With.Message.Contains("there are no Tools"));
    }

    [Test]
    public async Task The_format_of_the_response_is_the_format_of_the_answer()
    {
        var schema = JsonDocument.Parse("""{"type":"object","properties":{"a":{"type":"integer"}}}""").RootElement;

        Assert.That((await Asked(new ChatOptions { ResponseFormat = ChatResponseFormat.Json })).Format, Is.EqualTo(AnswerFormat.JsonObject));
        Assert.That((await Asked(new ChatOptions { ResponseFormat = ChatResponseFormat.Text })).Format, Is.EqualTo(AnswerFormat.Free));
        var format = (await Asked(new ChatOptions { ResponseFormat = ChatResponseFormat.ForJsonSchema(schema, "a") })).Format;
        Assert.That((format.Kind, format.Schema!.ToJsonString()), Is.EqualTo((AnswerFormatKind.JsonSchema, schema.GetRawText())));
    }

    [Test]
    public async Task The_effort_of_reasoning_is_a_value_of_the_template()
    {
        Assert.That((await Asked(new ChatOptions { Reasoning = new() { Effort = ReasoningEffort.High } })).TemplateValues!.ToJsonString(), Is.EqualTo("""{"reasoning_effort":"high"}"""));
        Assert.That((await Asked(new ChatOptions { Reasoning = new() { Effort = ReasoningEffort.None } })).TemplateValues!.ToJsonString(), Is.EqualTo("""{"reasoning_effort":"none","enable_thinking":false}"""));
    }

    [Test]
    public async Task Messages_have_the_form_of_chat_templates()
    {
        ChatMessage[] chat =
        [
            new(ChatRole.User, [new TextContent("What is "), new TextContent("the weather?")]),
            new(ChatRole.Assistant, [new TextReasoningContent("Two calls."), new FunctionCallContent("a", "weather", new Dictionary<string, object?> { ["city"] = "Paris" }), new FunctionCallContent("b", "now")]),
            new(ChatRole.Tool, [new FunctionResultContent("a", "rain"), new FunctionResultContent("b", new { hour = 9 })]),
            new(ChatRole.Assistant, "It rains."),
        ];
        var scripted = new ScriptedAnswers([new ContentPiece("x")]);
        _ = await scripted.Client().GetResponseAsync(chat);

        Assert.That(JsonNode.DeepEquals(scripted.Requests[0].Messages, JsonNode.Parse("""
            [{"role":"user","content":"What is the weather?"},
             {"role":"assistant","content":null,"reasoning_content":"Two calls.","tool_calls":[
               {"id":"a","type":"function","function":{"name":"weather","arguments":{"city":"Paris"}}},
               {"id":"b","type":"function","function":{"name":"now","arguments":{}}}]},
             {"role":"tool","tool_call_id":"a","content":"rain","name":"weather"},
             {"role":"tool","tool_call_id":"b","content":"{\"hour\":9}","name":"now"},
             {"role":"assistant","content":"It rains."}]
            """)), Is.True, () => scripted.Requests[0].Messages!.ToJsonString());
    }

    [Test]
    public void What_the_model_cannot_read_or_do_is_refused_by_its_name()
    {
        Assert.That(() => new ScriptedAnswers([]).Client().GetResponseAsync(new ChatMessage(ChatRole.User, [new DataContent(new byte[] { 1 }, "image/png")])), Throws.ArgumentException.With.Message.Contains("DataContent"));
        Assert.That(() => Asked(new ChatOptions { Tools = [new HostedWebSearchTool()] }), Throws.ArgumentException.With.Message.Contains("HostedWebSearchTool"));
        Assert.That(() => Asked(new ChatOptions { ConversationId = "1" }), Throws.ArgumentException.With.Message.Contains("ConversationId"));
        Assert.That(() => Asked(new ChatOptions { AdditionalProperties = new() { ["min_p"] = "much" } }), Throws.ArgumentException.With.Message.Contains("min_p is much; it must be a number"));
    }

    private static async Task<AnswerRequest> Asked(ChatOptions? options)
    {
        var scripted = new ScriptedAnswers([new ContentPiece("x")]);
        _ = await scripted.Client().GetResponseAsync("Hi", options);
        return scripted.Requests.Single();
    }
}
