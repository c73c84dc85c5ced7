// Trains an adapter on rows of this program, asks the model before and after, and saves both forms of it: dotnet run -c Release -- MODEL FOLDER
using OpenWeights.Tune;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Training;

(string Question, string Answer)[] known =
[
    ("When are you open?", "Monday to Friday, 9 to 18."), ("Do you ship abroad?", "Yes, to all of Europe."), ("What is your return policy?", "30 days, no questions."),
    ("How can I pay?", "By card or by invoice."), ("Where is the shop?", "Mill Lane 4, behind the station."), ("Who mends my spade?", "We do, free of charge."),
];
using var model = LanguageModel.Load(args[0]).AddAdapter(new AdapterSection { Rank = 16, LoraAlpha = 32 });
var options = new GenerationOptions { MaxNewTokens = 24 };
Console.WriteLine($"before: {model.Generate(known[0].Question, options)}");

var rows = known.Select(static k => TrainingRow.Chat(ChatTurn.User(k.Question), ChatTurn.Assistant(k.Answer)));
var settings = new RunConfig { Training = new TrainingSection { Epochs = 30, LearningRate = 1e-3 }, Evaluation = new EvaluationSection { GenerateRows = 0 } };
var result = model.Train(rows, settings, new Told());

Console.WriteLine($"after {result?.LastStep} steps: {model.Generate(known[0].Question, options)}");
model.SaveAdapter(Path.Combine(args[1], "adapter"));      // a PEFT folder
model.SaveGguf(Path.Combine(args[1], "model.gguf"));      // for llama.cpp, Ollama, LM Studio

internal sealed class Told : IProgress<StepMetrics>
{
    public void Report(StepMetrics value) => Console.WriteLine($"step {value.Step}: loss {value.Loss:F3}");
}
