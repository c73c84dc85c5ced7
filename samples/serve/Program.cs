// Serves a model in ASP.NET Core through .NET's own IChatClient: dotnet run -c Release -- --model MODEL
using Microsoft.Extensions.AI;
using OpenWeights.Tune;
using OpenWeights.Tune.MicrosoftAI;

var builder = WebApplication.CreateBuilder(args);
builder.Services.AddSingleton(static s => LanguageModel.Load(s.GetRequiredService<IConfiguration>()["model"] ?? throw new ArgumentException("give --model MODEL")));
builder.Services.AddChatClient(static s => new OpenWeightsChatClient(s.GetRequiredService<LanguageModel>()));

var app = builder.Build();
_ = app.Services.GetRequiredService<IChatClient>(); // the model is loaded before the first question comes
app.MapPost("/ask", static async (Question asked, IChatClient client, CancellationToken stop) =>
    new { answer = (await client.GetResponseAsync(asked.Text, asked.Options, stop)).Text });
app.MapPost("/stream", static (Question asked, IChatClient client, CancellationToken stop) => Pieces(client.GetStreamingResponseAsync(asked.Text, asked.Options, stop)));
app.Run();

static async IAsyncEnumerable<string> Pieces(IAsyncEnumerable<ChatResponseUpdate> updates)
{
    await foreach (var update in updates)
    {
        yield return update.Text;
    }
}

internal sealed record Question(string Text, int MaxTokens = 64)
{
    internal ChatOptions Options => new() { Temperature = 0, MaxOutputTokens = MaxTokens };
}
