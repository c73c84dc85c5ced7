// Talks with a model of this machine, without a server, and lets it call a function: dotnet run -c Release -- MODEL [ADAPTER]
using Microsoft.Extensions.AI;
using OpenWeights.Tune;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.MicrosoftAI;

using var model = LanguageModel.Load(args[0]);
if (args.Length > 1)
{
    model.AddAdapter(new AdapterSection { Path = args[1] });
}

using var client = new OpenWeightsChatClient(model).AsBuilder().UseFunctionInvocation().Build();
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
