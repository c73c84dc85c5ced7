using System.Diagnostics;
using System.Numerics.Tensors;
using System.Text.Json.Nodes;
using Microsoft.Extensions.AI;
using NUnit.Framework;
using OpenWeights.Formats.Gguf;
using OpenWeights.Testing;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Answering;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Init;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives.Embeddings;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.MicrosoftAI.Tests;

/// <summary>The interfaces over a small model, with an adapter that is trained here, beside what the library says without them.</summary>
[TestFixture]
internal sealed class ModelTests
{
    private const string Question = "Give the ISO date of April third, nineteen oh six.";
    private static readonly string s_base = QuickstartAdapter.Base;
    private readonly TemporaryFolder _folder = new();
    private LoadedModel _loaded = null!;
    private AnswerService _service = null!;

    [OneTimeSetUp]
    public async Task Train_and_load()
    {
        var adapter = QuickstartAdapter.Train(_folder.At("run"));
        _loaded = ModelLoader.Load(ModelPath.Resolve(s_base), dtype: null, Devices.Find("cpu"));
        _service = new AnswerService(_loaded, new AnswerServiceOptions());
        _ = await _service.LoadAdapterAsync("mine", adapter);
    }

    [OneTimeTearDown]
    public async Task Free()
    {
        if (_service is not null)
        {
            await _service.DisposeAsync();
        }

        _loaded?.Dispose();
        _folder.Dispose();
    }

    [Test]
    public async Task A_greedy_response_is_what_the_generator_makes_of_the_same_prompt()
    {
        var response = await Client().GetResponseAsync(Question, new ChatOptions { Temperature = 0, MaxOutputTokens = 24 });

        Assert.That(response.Text, Is.EqualTo(Alone(null, 24)));
    }

    [Test]
    public async Task A_model_id_names_the_adapter_that_answers()
    {
        var greedy = new ChatOptions { Temperature = 0, MaxOutputTokens = 24, AdditionalProperties = new() { ["top_logprobs"] = 0 } };
        var ofBase = await Client().GetStreamingResponseAsync(Question, greedy).ToListAsync();
        var ofAdapter = await new OpenWeightsChatClient(_service, "mine").GetStreamingResponseAsync(Question, greedy).ToListAsync();
        greedy.ModelId = "mine";

        Assert.That((await Client().GetResponseAsync(Question, greedy)).Text, Is.EqualTo(ofAdapter.ToChatResponse().Text));
        Assert.That(ofAdapter.ToChatResponse().Text, Is.EqualTo(Alone("mine", 24)));
        Assert.That(FirstLogProb(ofAdapter), Is.Not.EqualTo(FirstLogProb(ofBase)), "the adapter changes how likely a token is");
        Assert.That((ofBase[0].ModelId, ofAdapter[0].ModelId), Is.EqualTo((_service.Base.Name, "mine")));
        Assert.That(() => Client().GetResponseAsync(Question, new ChatOptions { ModelId = "mien" }), Throws.TypeOf<AnswerRefusedException>().With.Message.Contains("mine"));
    }

    [Test]
    public async Task A_model_of_a_program_chats_with_its_adapter_and_is_its_owners_again_afterwards()
    {
        using var model = LanguageModel.Load(s_base, new ModelSection { Device = "cpu" }).AddAdapter(new AdapterSection { Path = _folder.At("run", "adapter") });
        using (var client = new OpenWeightsChatClient(model))
        using (var generator = new OpenWeightsEmbeddingGenerator(model))
        {
            var response = await client.GetResponseAsync(Question, new ChatOptions { Temperature = 0, MaxOutputTokens = 24 });
            Assert.That(response.Text, Is.EqualTo(Alone("mine", 24)));
            Assert.That((await generator.GenerateVectorAsync("a")).Length, Is.EqualTo(_service.EmbeddingWidth));
            Assert.That(() => model.Generate(Question), Throws.InvalidOperationException.With.Message.Contains("dispose it first"));
        }

        Assert.That(model.Generate(Question, new GenerationOptions { MaxNewTokens = 24 }), Is.EqualTo(Alone("mine", 24)));
    }

    [Test]
    public async Task The_most_tokens_and_stop_sequences_end_a_response()
    {
        const string Number = "Write four hundred and forty in digits.";
        var whole = await Client().GetResponseAsync(Number, new ChatOptions { Temperature = 0 });
        var cut = await Client().GetResponseAsync(Number, new ChatOptions { Temperature = 0, MaxOutputTokens = 1 });
        var stopped = await Client().GetResponseAsync(Number, new ChatOptions { Temperature = 0, StopSequences = ["0"] });

        Assert.Multiple(() =>
        {
            Assert.That((whole.Text, whole.FinishReason), Is.EqualTo(("440", (ChatFinishReason?)ChatFinishReason.Stop)));
            Assert.That((cut.FinishReason, cut.Usage!.OutputTokenCount), Is.EqualTo(((ChatFinishReason?)ChatFinishReason.Length, (long?)1)));
            Assert.That((stopped.Text, stopped.FinishReason), Is.EqualTo(("44", (ChatFinishReason?)ChatFinishReason.Stop)));
        });
    }

    [Test]
    public async Task A_seed_makes_a_sampled_response_again()
    {
        var options = new ChatOptions { Temperature = 1.5f, MaxOutputTokens = 24, Seed = 5, AdditionalProperties = new() { ["ignore_eos"] = true } };
        var one = await Client().GetResponseAsync(Question, options);
        var same = await Client().GetResponseAsync(Question, options);
        options.Seed = 6;
        var other = await Client().GetResponseAsync(Question, options);

        Assert.That(same.Text, Is.EqualTo(one.Text));
        Assert.That(other.Text, Is.Not.EqualTo(one.Text));
    }

    [Test]
    public void A_cancelled_response_frees_its_place()
    {
        using var stop = new CancellationTokenSource();
        Assert.That(async () =>
        {
            await foreach (var update in Client().GetStreamingResponseAsync(Question, new ChatOptions { MaxOutputTokens = 100_000, AdditionalProperties = new() { ["ignore_eos"] = true } }, stop.Token))
            {
                await stop.CancelAsync();
            }
        }, Throws.InstanceOf<OperationCanceledException>());

        Assert.That(() => _service.Status.Running, Is.Zero.After(30_000, 20));
    }

    [Test]
    public async Task Probabilities_of_tokens_are_in_the_raw_representation()
    {
        var options = new ChatOptions { Temperature = 0, MaxOutputTokens = 4, AdditionalProperties = new() { ["top_logprobs"] = 2, ["ignore_eos"] = true } };
        var updates = await Client().GetStreamingResponseAsync(Question, options).ToListAsync();

        var tokens = updates.Select(static u => u.RawRepresentation).OfType<AnswerDelta>().SelectMany(static d => d.Tokens).ToList();
        Assert.That(tokens, Has.Count.EqualTo(4));
        Assert.That(tokens.Select(static t => t.Alternatives.Count), Is.All.EqualTo(2));
        Assert.That(tokens.Select(static t => t.Chance.Id), Is.EqualTo(tokens.Select(static t => t.Alternatives[0].Id)), "greedy decoding takes the likeliest");
    }

    [Test]
    public async Task Vectors_are_those_of_the_embedder()
    {
        string[] texts = ["the third of March", "a", "the fifteenth of August, nineteen ninety-five"];
        using var alone = ModelLoader.Load(ModelPath.Resolve(s_base), dtype: null, Devices.Find("cpu"));
        var embedder = new TextEmbedder(alone.Model, new EmbeddingSettings { Pooling = EmbeddingPooling.Mean }, new RowTokenizer(Tokenizer.Load(s_base), "all"));
        var ids = texts.Select(embedder.EncodeDocument).ToList();
        var expected = embedder.Embed(ids);
        using var generator = new OpenWeightsEmbeddingGenerator(_service);

        var made = await generator.GenerateAsync(texts);

        Assert.Multiple(() =>
        {
            Assert.That(made.Usage!.InputTokenCount, Is.EqualTo(ids.Sum(static i => i.Length)));
            Assert.That(generator.GetService<EmbeddingGeneratorMetadata>()!.DefaultModelDimensions, Is.EqualTo(made[0].Dimensions));
            for (var i = 0; i < texts.Length; i++)
            {
                Assert.That(TensorPrimitives.CosineSimilarity(made[i].Vector.Span, expected[i]), Is.EqualTo(1).Within(1e-5));
                Assert.That(TensorPrimitives.Norm(made[i].Vector.Span), Is.EqualTo(1).Within(1e-5));
            }
        });
    }

    [Test]
    public async Task Vectors_can_be_an_adapters_and_of_no_other_width()
    {
        using var generator = new OpenWeightsEmbeddingGenerator(_service);
        var (ofBase, ofAdapter) = (await generator.GenerateVectorAsync("the third of March"), await generator.GenerateVectorAsync("the third of March", new EmbeddingGenerationOptions { ModelId = "mine" }));

        Assert.That(ofAdapter.ToArray(), Is.Not.EqualTo(ofBase.ToArray()));
        Assert.That(() => generator.GenerateAsync(["a"], new EmbeddingGenerationOptions { Dimensions = 3 }), Throws.ArgumentException.With.Message.Contains("cannot be shortened"));
        Assert.That(() => generator.GenerateAsync([""]), Throws.TypeOf<AnswerRefusedException>());
        Assert.That(await generator.GenerateAsync([]), Is.Empty);
    }

    [Test]
    public async Task A_response_of_a_type_is_json_of_its_schema_whatever_the_model_would_say([Range(1, 5)] int seed)
    {
        var options = new ChatOptions { Temperature = 1.5f, Seed = seed };
        var response = await Client().GetResponseAsync<Day>(Question, options);

        Assert.That(response.TryGetResult(out var day), Is.True, response.Text);
        Assert.That(Enum.IsDefined(day!.Weekday));
    }

    [Test]
    public async Task The_sample_answers_line_by_line()
    {
        var path = RandomModel(9);
        var start = new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, "ChatClient.dll"), path]) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true, StandardOutputEncoding = System.Text.Encoding.UTF8 };
        using var process = Process.Start(start)!;
        var (output, error) = (process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
        await process.StandardInput.WriteAsync($"{Question}\n\n");
        process.StandardInput.Close();
        await process.WaitForExitAsync();

        using var loaded = ModelLoader.Load(ModelPath.Resolve(path), dtype: null, Devices.Find("cpu"));
        await using var service = new AnswerService(loaded, new AnswerServiceOptions());
        var now = AIFunctionFactory.Create(() => DateTime.Now.ToString("f"), "now", "The date and time now.");
        var expected = await new OpenWeightsChatClient(service).GetResponseAsync(Question, new ChatOptions { Temperature = 0, Tools = [now] });
        Assert.That(process.ExitCode, Is.Zero, await error);
        Assert.That(await output, Is.EqualTo(expected.Text + Environment.NewLine));
        Assert.That(expected.Text, Is.Not.Empty);
    }

    [Test]
    public void The_page_of_the_library_shows_the_sample()
    {
        var page = File.ReadAllText(Path.Combine(SharedFiles.Root, "docs", "library.md")).ReplaceLineEndings("\n");
        var sample = File.ReadAllText(Path.Combine(SharedFiles.Root, "samples", "chat-client", "Program.cs")).ReplaceLineEndings("\n");

        Assert.That(page, Does.Contain($"```cs\n{sample}```\n"));
    }

    [Test]
    public async Task A_function_that_is_required_is_called_whatever_the_model_would_say([Range(1, 3)] int seed)
    {
        using var loaded = ModelLoader.Load(ModelPath.Resolve(RandomModel(seed)), dtype: null, Devices.Find("cpu"));
        await using var service = new AnswerService(loaded, new AnswerServiceOptions());
        List<DayOfWeek> called = [];
        var function = AIFunctionFactory.Create((DayOfWeek day, bool isShort) => { called.Add(day); return isShort ? "short" : "long"; }, "open", "Opens a shop on a day.");
        var client = new OpenWeightsChatClient(service).AsBuilder().UseFunctionInvocation().Build();
        var options = new ChatOptions { Tools = [function], ToolMode = ChatToolMode.RequireSpecific("open"), AllowMultipleToolCalls = false, Seed = seed, MaxOutputTokens = 200 };

        var response = await client.GetResponseAsync("Open it.", options);

        Assert.That(called, Has.Count.EqualTo(1), () => System.Text.Json.JsonSerializer.Serialize(response.Messages, AIJsonUtilities.DefaultOptions));
        Assert.That(Enum.IsDefined(called[0]));
        Assert.That(response.Messages.Take(3).Select(static m => m.Role), Is.EqualTo(new[] { ChatRole.Assistant, ChatRole.Tool, ChatRole.Assistant }));
        Assert.That(response.Messages[1].Contents.OfType<FunctionResultContent>().Single().Result?.ToString(), Is.AnyOf("short", "long"));
    }

    [Test]
    public async Task A_real_model_answers_in_json_of_a_type()
    {
        var parts = Directory.GetFiles(SharedFiles.RequireShared("fixtures", "weights", "smollm2-135m-instruct"), "model-q4_1.gguf.part*").Order(StringComparer.Ordinal);
        await using (var whole = File.Create(_folder.At("smollm2.gguf")))
        {
            foreach (var part in parts)
            {
                await whole.WriteAsync(await File.ReadAllBytesAsync(part));
            }
        }

        GgufFolder.Unpack(_folder.At("smollm2.gguf"), _folder.Folder("smollm2"));
        using var loaded = ModelLoader.Load(ModelPath.Resolve(_folder.At("smollm2")), dtype: null, Devices.Find("cpu"));
        await using var service = new AnswerService(loaded, new AnswerServiceOptions());
        var response = await new OpenWeightsChatClient(service).GetResponseAsync<Town>("What is the capital of France? Answer as JSON with its name and its country.", new ChatOptions { Temperature = 0, MaxOutputTokens = 100 });

        Assert.That(response.TryGetResult(out var town), Is.True, response.Text);
        Assert.That(town!.Name + town.Country, Does.Contain("Paris").Or.Contain("France"));
    }

    internal sealed record Town(string Name, string Country);

    internal sealed record Day(DayOfWeek Weekday, bool IsHoliday);

    // The greedy answer to the question by the library's generator, with the adapter if one is named.
    private string Alone(string? adapter, int tokens)
    {
        var tokenizer = Tokenizer.Load(s_base);
        var prompt = tokenizer.Encode(new ChatRenderer(tokenizer).Render(new JsonArray(new JsonObject { ["role"] = "user", ["content"] = Question }), tools: null, addGenerationPrompt: true), addSpecialTokens: false);
        using var alone = ModelLoader.Load(ModelPath.Resolve(s_base), dtype: null, Devices.Find("cpu"));
        using var adapters = new AdapterSet(alone.Model);
        if (adapter is not null)
        {
            _ = adapters.Load(adapter, _folder.At("run", "adapter"));
            adapters.Use((adapter, 1));
        }

        var made = new TextGenerator(alone.Model, new GenerationOptions { MaxNewTokens = tokens, EndTokens = EndTokens.Of(alone.Folder, tokenizer) }).Continue([prompt])[0];
        return tokenizer.Decode(made.OutputIds, skipSpecialTokens: true);
    }

    // A model that knows nothing, with the quickstart's tokenizer and room for tools in its prompt.
    private string RandomModel(int seed)
    {
        var path = _folder.At($"random {seed}");
        var shape = new ModelShape { HiddenSize = 32, IntermediateSize = 48, Layers = 2, Heads = 4, KeyValueHeads = 2, VocabularySize = 512, MaxPositions = 2048, TiedEmbeddings = true, EosToken = 2 };
        NewModel.Write("llama", shape, seed, ScalarType.Float32, path, addTokenizer: null);
        foreach (var name in new[] { "tokenizer.json", "tokenizer_config.json" })
        {
            File.Copy(Path.Combine(s_base, name), Path.Combine(path, name));
        }

        return path;
    }

    private static float FirstLogProb(List<ChatResponseUpdate> updates) =>
        updates.Select(static u => u.RawRepresentation).OfType<AnswerDelta>().First(static d => d.Tokens.Count > 0).Tokens[0].Chance.LogProb;

    private OpenWeightsChatClient Client() => new(_service);
}
