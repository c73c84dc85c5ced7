// Trains on rows that a program finds for itself, here the well rated tickets of a help desk: dotnet run -c Release -- MODEL TICKETS.txt
using OpenWeights.Tune;
using OpenWeights.Tune.Configuration;

using var model = LanguageModel.Load(args[0]).AddAdapter();
var settings = new RunConfig { Training = new TrainingSection { Epochs = 10, LearningRate = 1e-3 }, Evaluation = new EvaluationSection { GenerateRows = 0 } };
var before = model.Evaluate(await Tickets(args[1]).ToListAsync()).Loss;
var result = await model.TrainAsync(Tickets(args[1]), settings);
Console.WriteLine($"loss on the tickets: {before:F3}, and after {result?.LastStep} steps {model.Evaluate(await Tickets(args[1]).ToListAsync()).Loss:F3}");

// It could as well be a query of a database, or a service that is asked page by page: rows are taken one after the other.
static async IAsyncEnumerable<TrainingRow> Tickets(string path)
{
    Dictionary<string, string> ticket = [];
    await foreach (var line in File.ReadLinesAsync(path))
    {
        if (line.Split(": ", 2) is [var name, var text])
        {
            ticket[name] = text;
        }

        if (ticket is { Count: 3 })
        {
            if (int.Parse(ticket["stars"]) >= 4)
            {
                yield return TrainingRow.Chat(ChatTurn.User(ticket["asked"]), ChatTurn.Assistant(ticket["answered"]));
            }

            ticket.Clear();
        }
    }
}
