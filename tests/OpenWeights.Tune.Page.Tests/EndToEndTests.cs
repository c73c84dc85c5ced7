using System.Text.Json.Nodes;
using Microsoft.Playwright;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Answering;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.MicrosoftAI.Tests;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Server;
using OpenWeights.Tune.Torch;
using static Microsoft.Playwright.Assertions;

namespace OpenWeights.Tune.Page.Tests;

/// <summary>The page of the real server, over a small model and an adapter that was trained on it.</summary>
[TestFixture]
internal sealed class EndToEndTests
{
    private const string Question = "Write four hundred and forty in digits.";

    [Test]
    public async Task Base_and_adapter_answer_beside_each_other_and_the_conversation_can_be_trained_on()
    {
        var browser = Chromium.Browser;
        using var folder = new TemporaryFolder();
        var adapter = QuickstartAdapter.Train(folder.At("run"));
        using var loaded = ModelLoader.Load(ModelPath.Resolve(QuickstartAdapter.Base), dtype: null, Devices.Find("cpu"));
        await using var service = new AnswerService(loaded, new AnswerServiceOptions { Name = "base" });
        _ = await service.LoadAdapterAsync("mine", adapter);
        await using var server = new AnswerServer(new ServerOptions { Port = 0 });
        await server.StartAsync();
        server.Serve(service);
        await using var context = await browser.NewContextAsync();
        var page = await context.NewPageAsync();
        List<string> failures = [];
        page.PageError += (_, error) => failures.Add(error);
        page.Console += (_, message) => failures.AddRange(message.Type == "error" ? [message.Text] : Array.Empty<string>());

        await page.GotoAsync(server.Address.ToString());
        await page.GetByLabel("Beside it").SelectOptionAsync("mine");
        await page.GetByLabel("Temperature").FillAsync("0");
        await page.GetByLabel("Most tokens").FillAsync("12");
        var message = page.GetByRole(AriaRole.Textbox, new() { Name = "Message", Exact = true });
        await message.FillAsync(Question);
        await message.PressAsync("Enter");
        await Expect(page.GetByRole(AriaRole.Status)).ToHaveTextAsync("The answer is complete.", new() { Timeout = 60_000 });

        // The tokens of the answer, with probabilities of alternatives that add up to at most 1.
        await page.Locator("#show-tokens").CheckAsync();
        var tokens = page.Locator(".answer").First.Locator(".token");
        await tokens.First.HoverAsync();
        await Expect(page.GetByRole(AriaRole.Tooltip).Locator("div")).ToHaveCountAsync(5);

        var download = await page.RunAndWaitForDownloadAsync(() => page.GetByRole(AriaRole.Button, new() { Name = "Export" }).ClickAsync());
        var path = folder.At("conversation.jsonl");
        await download.SaveAsAsync(path);
        var rows = (await File.ReadAllLinesAsync(path)).Select(static l => JsonNode.Parse(l)!["messages"]![1]!["content"]!.GetValue<string>()).ToList();
        Assert.That(rows[0], Is.EqualTo("440"));
        Assert.That(rows, Is.EqualTo(new[] { await Greedy(service, "base"), await Greedy(service, "mine") }));
        _ = QuickstartAdapter.Train(folder.At("again"), path, steps: 1);

        var report = await page.RunAndWaitForPopupAsync(() => page.GetByRole(AriaRole.Link, new() { Name = "Report of its run" }).ClickAsync());
        await Expect(report.GetByRole(AriaRole.Heading, new() { Level = 1 })).ToHaveTextAsync("run");
        Assert.That(failures, Is.Empty);
        await server.DrainAsync();
    }

    private static async Task<string> Greedy(AnswerService service, string model)
    {
        var request = new AnswerRequest { Model = model, Messages = [new JsonObject { ["role"] = "user", ["content"] = Question }], MaxNewTokens = 12, Options = new GenerationOptions() };
        var text = "";
        await foreach (var happened in service.AnswerAsync(request))
        {
            text += happened is AnswerDelta { Piece: ContentPiece piece } ? piece.Text : "";
        }

        return text;
    }
}
