// Talks with a model of this machine, without a server, and lets it call a function: dotnet run -c Release -- MODEL [ADAPTER]
using Microsoft.Extensions.AI;
using OpenWeights.Tune.Answering;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.MicrosoftAI;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Torch;

using var loaded = ModelLoader.Load(ModelPath.Resolve(args[0]), dtype: null, Devices.Find("auto"));
await using var service = new AnswerService(loaded, new AnswerServiceOptions());
var model = args.Length > 1 ? await service.LoadAdapterAsync("mine", args[1]) : service.Base;
using var client = new OpenWeightsChatClient(service, model.Name).AsBuilder().UseFunctionInvocation().Build();
var options = new ChatOptions { Temperature = 0, Tools = [AIFunctionFactory.Create(() => DateTime.Now.ToString("f"), "now", "The date and time now.")] };
List<ChatMessage> chat = [];
while (Console.ReadLine() is { Length: > 0 } line)
{
    chat.Add(new ChatMessage(ChatRole.User, line));
    List<ChatResponseUpdate> answer = [];
    await foreach (var update in client.GetStreamingResponseAsync(chat, options))
    {
        Console.Write(update.Text);
        answer.Add(update);
    }

    Console.WriteLine();
    chat.AddMessages(answer);
}
