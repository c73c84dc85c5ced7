using System.ClientModel;
using System.Text.Json;
using Microsoft.Extensions.AI;
using NUnit.Framework;
using OpenAI;
using OpenAI.Chat;
using OpenAI.Embeddings;
using ChatMessage = OpenAI.Chat.ChatMessage;

namespace OpenWeights.Tune.Server.Tests;

/// <summary>The clients that people use: the OpenAI package, and Microsoft.Extensions.AI over it.</summary>
[TestFixture]
public sealed class ClientTests
{
    private TestServer _server = null!;
    private OpenAIClient _client = null!;

    [OneTimeSetUp]
    public async Task Start()
    {
        _server = await TestServer.StartAsync(engine: new Decoding.Engine.TextEngineOptions { MaxPositions = 2048 });
        _client = new OpenAIClient(new ApiKeyCredential("any"), new OpenAIClientOptions { Endpoint = new Uri(_server.Address, "/v1"), RetryPolicy = new System.ClientModel.Primitives.ClientRetryPolicy(0) });
    }

    [OneTimeTearDown]
    public async Task Stop() => await _server.DisposeAsync();

    private ChatClient Chat => _client.GetChatClient("tiny");

    [Test]
    public async Task OpenAIs_client_chats_and_streams_the_same()
    {
        var options = new ChatCompletionOptions { Temperature = 0, MaxOutputTokenCount = 16 };
        var whole = await Chat.CompleteChatAsync([ChatMessage.CreateUserMessage("January 5")], options);
        var (text, reason, usage) = ("", (OpenAI.Chat.ChatFinishReason?)null, (ChatTokenUsage?)null);
        await foreach (var update in Chat.CompleteChatStreamingAsync([ChatMessage.CreateUserMessage("January 5")], options))
        {
            text += string.Concat(update.ContentUpdate.Select(static c => c.Text));
            reason = update.FinishReason ?? reason;
            usage = update.Usage ?? usage;
        }

        Assert.That(text, Is.Not.Empty.And.EqualTo(whole.Value.Content[0].Text));
        Assert.That(reason, Is.EqualTo(whole.Value.FinishReason));
        Assert.That(usage!.OutputTokenCount, Is.EqualTo(whole.Value.Usage.OutputTokenCount));
        Assert.That(usage.InputTokenDetails.CachedTokenCount, Is.GreaterThan(0), "the second request has the first one's prompt");
    }

    [Test]
    public async Task OpenAIs_client_reads_log_probabilities()
    {
        var options = new ChatCompletionOptions { Temperature = 0, MaxOutputTokenCount = 6, IncludeLogProbabilities = true, TopLogProbabilityCount = 3 };
        var whole = await Chat.CompleteChatAsync([ChatMessage.CreateUserMessage("January 5")], options);
        Assert.That(string.Concat(whole.Value.ContentTokenLogProbabilities.Select(static t => t.Token)), Is.EqualTo(whole.Value.Content[0].Text));
        Assert.That(whole.Value.ContentTokenLogProbabilities.Select(static t => t.TopLogProbabilities.Count), Is.All.EqualTo(3));
    }

    [Test]
    public async Task OpenAIs_client_gets_answers_of_a_schema()
    {
        var schema = BinaryData.FromString("""{"type": "object", "properties": {"n": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["n"], "additionalProperties": false}""");
        var options = new ChatCompletionOptions { Temperature = 0, MaxOutputTokenCount = 200, ResponseFormat = OpenAI.Chat.ChatResponseFormat.CreateJsonSchemaFormat("number", schema, jsonSchemaIsStrict: true) };
        var answer = await Chat.CompleteChatAsync([ChatMessage.CreateUserMessage("five")], options);
        Assert.That(JsonDocument.Parse(answer.Value.Content[0].Text).RootElement.GetProperty("n").GetInt32(), Is.InRange(1, 9));
    }

    [Test]
    public async Task OpenAIs_client_gets_vectors()
    {
        var client = _client.GetEmbeddingClient("tiny");
        OpenAIEmbeddingCollection vectors = await client.GenerateEmbeddingsAsync(["January", "five"]);
        Assert.That(vectors, Has.Count.EqualTo(2));
        Assert.That(vectors[0].ToFloats().ToArray().Sum(static x => x * x), Is.EqualTo(1).Within(1e-4));
    }

    [Test]
    public async Task OpenAIs_client_is_told_what_is_wrong()
    {
        var wrong = await Assert.ThrowsAsync<ClientResultException>(() => Chat.CompleteChatAsync([ChatMessage.CreateUserMessage("x")], new ChatCompletionOptions { Temperature = 5 }));
        Assert.That(wrong!.Status, Is.EqualTo(400));
        Assert.That(wrong.Message, Does.Contain("temperature"));
    }

    [Test]
    public async Task A_cancelled_stream_frees_its_place()
    {
        using var stop = new CancellationTokenSource();
        var options = new ChatCompletionOptions { MaxOutputTokenCount = 200 };
        var count = 0;
        try
        {
            await foreach (var _ in Chat.CompleteChatStreamingAsync([ChatMessage.CreateUserMessage("five")], options, stop.Token))
            {
                if (++count == 2)
                {
                    await stop.CancelAsync();
                }
            }
        }
        catch (OperationCanceledException)
        {
        }

        var after = await Chat.CompleteChatAsync([ChatMessage.CreateUserMessage("five")], new ChatCompletionOptions { MaxOutputTokenCount = 2 });
        Assert.That(after.Value.Usage.OutputTokenCount, Is.InRange(1, 2));
    }

    [Test]
    public async Task Microsofts_chat_client_chats_streams_and_gets_typed_answers()
    {
        using var chat = Chat.AsIChatClient();
        var options = new ChatOptions { Temperature = 0, MaxOutputTokens = 16 };
        var whole = await chat.GetResponseAsync("January 5", options);
        var streamed = await chat.GetStreamingResponseAsync("January 5", options).ToChatResponseAsync();
        Assert.That(streamed.Text, Is.Not.Empty.And.EqualTo(whole.Text));
        Assert.That(whole.Usage!.OutputTokenCount, Is.GreaterThan(0));
        var typed = await chat.GetResponseAsync<Answer>("five", new ChatOptions { Temperature = 0, MaxOutputTokens = 400 });
        Assert.That(Enum.IsDefined(typed.Result.Kind));
    }

    [Test]
    public async Task OpenAIs_client_calls_a_tool_and_answers_with_its_result()
    {
        var tool = OpenAI.Chat.ChatTool.CreateFunctionTool("get_day", "The day of a month", BinaryData.FromString("""{"type": "object", "properties": {"month": {"enum": ["January", "May"]}}, "required": ["month"], "additionalProperties": false}"""));
        var options = new ChatCompletionOptions { Temperature = 0, MaxOutputTokenCount = 300, Tools = { tool }, ToolChoice = ChatToolChoice.CreateRequiredChoice(), AllowParallelToolCalls = false };
        List<ChatMessage> messages = [ChatMessage.CreateUserMessage("five")];
        ChatCompletion called = await Chat.CompleteChatAsync(messages, options);
        Assert.That(called.FinishReason, Is.EqualTo(OpenAI.Chat.ChatFinishReason.ToolCalls));
        Assert.That(called.ToolCalls[0].FunctionName, Is.EqualTo("get_day"));
        messages.AddRange([ChatMessage.CreateAssistantMessage(called), ChatMessage.CreateToolMessage(called.ToolCalls[0].Id, "5")]);
        ChatCompletion answered = await Chat.CompleteChatAsync(messages, new ChatCompletionOptions { MaxOutputTokenCount = 8 });
        Assert.That(answered.ToolCalls, Is.Empty);
        Assert.That(answered.Usage.InputTokenCount, Is.GreaterThan(called.Usage.OutputTokenCount));
    }

    [Test]
    public async Task Microsofts_chat_client_calls_functions_by_itself()
    {
        var months = new List<string>();
        using var chat = Chat.AsIChatClient().AsBuilder().UseFunctionInvocation(configure: static c => c.MaximumIterationsPerRequest = 1).Build();
        var options = new ChatOptions
        {
            Temperature = 0,
            MaxOutputTokens = 300,
            ToolMode = ChatToolMode.RequireAny,
            AllowMultipleToolCalls = false,
            Tools = [AIFunctionFactory.Create((Kind kind) => { months.Add($"{kind}"); return 5; }, "count_of")],
        };
        _ = await chat.GetResponseAsync("five", options);
        Assert.That(months, Is.Not.Empty);
        Assert.That(months, Is.All.AnyOf("Odd", "Even"));
    }

    [Test]
    public async Task Microsofts_embedding_generator_gets_vectors()
    {
        using var generator = _client.GetEmbeddingClient("tiny").AsIEmbeddingGenerator();
        var vectors = await generator.GenerateAsync(["January"]);
        Assert.That(vectors[0].Vector.Length, Is.EqualTo(_server.Service.EmbeddingWidth));
    }

    private enum Kind
    {
        Odd,
        Even,
    }

    private sealed record Answer(Kind Kind, bool IsSmall);
}
