#:package OpenWeights.Tune@*-*
#:package TorchSharp-cpu@0.107.0
#:property PublishAot=false

// A program of one file: dotnet run app.cs -- MODEL
using OpenWeights.Tune;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Decoding;

using var model = LanguageModel.Load(args[0]).AddAdapter(new AdapterSection { Rank = 8, LoraAlpha = 16 });
string[] rows = ["The rake is red.", "The spade is blue.", "The hoe is green.", "The saw is yellow."];
var result = model.Train(rows.Select(TrainingRow.Text), new RunConfig { Training = new TrainingSection { MaxSteps = 20, LearningRate = 2e-3 } });
Console.WriteLine($"after {result?.LastStep} steps: The rake{model.Continue("The rake", new GenerationOptions { MaxNewTokens = 8 })}");
