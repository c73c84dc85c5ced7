// Lets a model sample answers, and rewards those that are short, or polite: dotnet run -c Release -- MODEL
using System.Text.Json.Nodes;
using OpenWeights.Tune;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Samples;
using OpenWeights.Tune.Training;

string[] questions = ["When are you open?", "Do you ship abroad?", "What is your return policy?", "How can I pay?"];
var rows = questions.Select(static q => TrainingRow.Of(new JsonObject { ["prompt"] = new JsonArray(new JsonObject { ["role"] = "user", ["content"] = q }) }));
using var model = LanguageModel.Load(args[0]).AddAdapter();
var settings = new RunConfig
{
    Objective = new ObjectiveSection { Type = "grpo", NumGenerations = 4, MaxCompletionLength = 24, Rewards = [new RewardSection { Custom = new ShortReward() }] },
    Training = new TrainingSection { MaxSteps = 5, LearningRate = 1e-3 },
    Evaluation = new EvaluationSection { GenerateRows = 0 },
};
_ = model.Train(rows, settings, new Told());

internal sealed class Told : IProgress<StepMetrics>
{
    public void Report(StepMetrics value) => Console.WriteLine($"step {value.Step}: reward {value.Objective["reward"]:F3}");
}
