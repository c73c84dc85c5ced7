using System.CommandLine;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Benchmarks;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Quantization;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>The command owt bench generate.</summary>
internal static class BenchGenerateCommand
{
    private static readonly Option<string?> s_model = new("--model") { Description = "A model, as a folder, a GGUF file or a name on the Hub, instead of random weights.", HelpName = "DIR" };
    private static readonly Option<int> s_prompt = CommonOptions.Number("--prompt-len", "Prompt length in tokens.", 256, 1);
    private static readonly Option<int> s_new = CommonOptions.Number("--new-tokens", "Number of tokens to generate after each prompt.", 64, 2);
    private static readonly Option<int[]> s_batches = new("--batch-size") { Description = "Batch size; several values are measured one after the other.", DefaultValueFactory = static _ => [1, 8], AllowMultipleArgumentsPerToken = true };
    private static readonly Option<int[]> s_clients = new("--clients") { Description = "Instead of batches: number of clients of an engine, each of which asks for one text after the other; several values are measured one after the other.", DefaultValueFactory = static _ => [], AllowMultipleArgumentsPerToken = true };
    private static readonly Option<int> s_repetitions = CommonOptions.Number("--steps", "Number of measurements, after one warmup.", 3, 1);
    private static readonly Option<string> s_dtype = new("--dtype") { Description = "Data type of the weights: float32 or bfloat16.", DefaultValueFactory = static _ => "float32" };
    private static readonly Option<string?> s_quantization = CommonOptions.Quantization();
    private static readonly Option<string> s_device = CommonOptions.Device();

    internal static Command Create()
    {
        _ = s_dtype.OnlyFrom("float32", "bfloat16");
        foreach (var numbers in new[] { s_batches, s_clients })
        {
            numbers.Validators.Add(result =>
            {
                if (CommonOptions.AreNumbers<int>(result) && (result.GetValueOrDefault<int[]>() ?? []).Any(static b => b < 1))
                {
                    result.AddError($"{numbers.Name} must be at least 1.");
                }
            });
        }

        var command = new Command("generate", "Measures prompt processing and decoding with a model of random weights, or with a given one; prints a line of JSON per batch size.") { s_model };
        BenchCommand.ShapeOptions.ForEach(command.Options.Add);
        foreach (var option in new Option[] { s_prompt, s_new, s_batches, s_clients, s_repetitions, s_dtype, s_quantization, s_device, BenchCommand.Json })
        {
            command.Options.Add(option);
        }

        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        Devices.UseAllCores();
        var (prompt, made) = (arguments.GetValue(s_prompt), arguments.GetValue(s_new));
        var (dtype, device) = (Devices.DType(arguments.GetValue(s_dtype)!) ?? float32, Devices.Find(arguments.GetValue(s_device)!));
        var settings = QuantizationSettings.Of(arguments.GetValue(s_quantization));
        using var loaded = arguments.GetValue(s_model) is { } path ? ModelLoader.Load(ModelPath.Resolve(path, new DownloadConsole(), Signals.Stop), dtype, device, settings, keepsBlocks: arguments.GetValue(s_quantization) is null) : null;
        using var random = loaded is null ? GenerationBenchmark.RandomModel(BenchCommand.Shape(arguments, prompt + made), dtype, device, BenchCommand.Family(arguments), settings) : null;
        var clients = arguments.GetValue(s_clients)!;
        if (clients.Length > 0)
        {
            Ask(loaded?.Model ?? random!, clients, new GenerationBenchmarkOptions { BatchSize = 1, PromptLength = prompt, NewTokens = made, Repetitions = arguments.GetValue(s_repetitions) });
            return ExitCode.Success;
        }

        foreach (var batch in arguments.GetValue(s_batches)!)
        {
            var options = new GenerationBenchmarkOptions { BatchSize = batch, PromptLength = prompt, NewTokens = made, Repetitions = arguments.GetValue(s_repetitions) };
            var result = GenerationBenchmark.Run(loaded?.Model ?? random!, options);
            JsonLines.Write(new JsonObject
            {
                ["batch_size"] = batch,
                ["prompt_tokens_per_second"] = Math.Round(result.PromptTokensPerSecond, 1),
                ["decode_tokens_per_second"] = Math.Round(result.DecodeTokensPerSecond, 1),
                ["prompt_seconds"] = Math.Round(result.PromptSeconds, 5),
                ["step_seconds"] = Math.Round(result.StepSeconds, 6),
                ["peak_memory_bytes"] = result.PeakMemoryBytes,
            });
        }

        return ExitCode.Success;
    }

    private static void Ask(CausalLanguageModel model, int[] clients, GenerationBenchmarkOptions options)
    {
        foreach (var count in clients)
        {
            var result = EngineBenchmark.RunAsync(model, options with { BatchSize = count }).GetAwaiter().GetResult();
            JsonLines.Write(new JsonObject
            {
                ["clients"] = count,
                ["tokens_per_second"] = Math.Round(result.TokensPerSecond, 1),
                ["first_token_seconds"] = Math.Round(result.FirstTokenSeconds, 4),
                ["longest_first_token_seconds"] = Math.Round(result.LongestFirstTokenSeconds, 4),
                ["mean_rows"] = Math.Round(result.MeanRows, 2),
            });
        }
    }
}
