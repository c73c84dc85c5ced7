using System.CommandLine;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Benchmarks;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Families;
using OpenWeights.Tune.Optimizers;
using OpenWeights.Tune.Quantization;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training.Ranks;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>The command owt bench.</summary>
internal static class BenchCommand
{
    private static readonly Option<string> s_family = new("--family") { Description = "The model's family, such as llama or qwen3; docs/families.md lists them.", HelpName = "NAME", DefaultValueFactory = static _ => "llama" };
    private static readonly Option<int> s_hidden = CommonOptions.Number("--hidden-size", "Width of the residual stream.", 512, 1);
    private static readonly Option<int> s_layers = CommonOptions.Number("--layers", "Number of layers.", 8, 1);
    private static readonly Option<int> s_heads = CommonOptions.Number("--heads", "Number of query heads.", 8, 1);
    private static readonly Option<int> s_keyValueHeads = CommonOptions.Number("--kv-heads", "Number of key/value heads.", 4, 1);
    private static readonly Option<int> s_intermediate = CommonOptions.Number("--intermediate-size", "Width of the feed-forward hidden layer.", 1376, 1);
    private static readonly Option<int> s_vocabulary = CommonOptions.Number("--vocab-size", "Number of tokens.", 32000, 2);
    private static readonly Option<int> s_length = CommonOptions.Number("--seq-len", "Tokens of a row.", 512, 2);
    private static readonly Option<int> s_batch = CommonOptions.Number("--batch-size", "Rows of a step.", 4, 1);
    private static readonly Option<int> s_experts = CommonOptions.Number("--experts", "Number of experts, of families that have them.", 8, 1);
    private static readonly Option<int> s_expertsPerToken = CommonOptions.Number("--experts-per-token", "Number of experts for each token.", 2, 1);
    private static readonly Option<string?> s_config = new("--write-config") { Description = "Only write the model's config.json to this file, for another program to measure.", HelpName = "FILE" };
    private static readonly Option<int> s_rank = CommonOptions.Number("--rank", "The adapter's rank.", 16, 1);
    private static readonly Option<int> s_steps = CommonOptions.Number("--steps", "Number of measured steps, after two warmup steps.", 8, 1);
    private static readonly Option<string?> s_checkpointing = new("--checkpointing")
    {
        Description = "Activation checkpointing: block (default if no value is given) or selective.",
        Arity = ArgumentArity.ZeroOrOne,
    };
    private static readonly Option<string> s_mode = new("--mode") { Description = "Train all weights (full) or an adapter on all linear layers (lora).", DefaultValueFactory = static _ => "lora" };
    private static readonly Option<string?> s_quantization = new("--quantization") { Description = "Quantize the frozen linear layers under an adapter: none, nf4 or int8." };
    private static readonly Option<string> s_dtype = new("--dtype") { Description = "Data type of the weights: float32 or bfloat16.", DefaultValueFactory = static _ => "float32" };
    private static readonly Option<string> s_shard = new("--shard") { Description = "Several ranks (owt launch -- bench train): what they share out, as parallel.shard.", DefaultValueFactory = static _ => "none" };
    private static readonly Option<string> s_optimizer = new("--optimizer") { Description = "Optimizer, by its name in a config.", HelpName = "NAME", DefaultValueFactory = static _ => "adamw" };
    private static readonly Option<string> s_stored = new("--stored") { Description = "Data type of the checkpoint: float32, bfloat16 or float16.", DefaultValueFactory = static _ => "bfloat16" };
    private static readonly Option<int> s_megabytes = CommonOptions.Number("--megabytes", "The checkpoint's size in MiB.", 1024, 1);
    private static readonly Option<string> s_folder = new("--folder") { Description = "Folder for the checkpoint; deleted afterwards.", HelpName = "DIR", DefaultValueFactory = static _ => "bench-load" };
    private static readonly Option<string> s_tokenizer = new("--tokenizer") { Description = "Folder or file of the tokenizer, or a model on the Hub.", HelpName = "DIR_OR_FILE", Required = true };
    private static readonly Option<string> s_input = new("--input") { Description = "Uncompressed file of rows.", HelpName = "FILE", Required = true };
    private static readonly Option<string> s_format = new("--format") { Description = "Row format.", DefaultValueFactory = static _ => "auto" };
    private static readonly Option<string> s_device = CommonOptions.Device();

    /// <summary>Accepted for consistency; bench always prints JSON.</summary>
    internal static Option<bool> Json { get; } = new("--json") { Description = "Print JSON (always on for this command)." };

    /// <summary>Sizes of a model with random weights.</summary>
    internal static List<Option> ShapeOptions => [s_family, s_hidden, s_layers, s_heads, s_keyValueHeads, s_intermediate, s_vocabulary, s_experts, s_expertsPerToken];

    internal static Command Create()
    {
        _ = s_family.OnlyFrom([.. FamilyRegistry.All.Select(static f => f.ModelType)]);
        _ = s_mode.OnlyFrom("full", "lora");
        _ = s_dtype.OnlyFrom("float32", "bfloat16");
        _ = s_shard.OnlyFrom("none", "optimizer");
        _ = s_optimizer.OnlyFrom([.. OptimizerKinds.Names]);
        _ = s_quantization.OnlyFrom("none", "nf4", "int8");
        _ = s_checkpointing.OnlyFrom("none", "block", "selective");
        var train = new Command("train", "Measures training steps of a model with random weights on random tokens; prints JSON.")
        {
            s_length, s_batch, s_mode, s_rank, s_dtype, s_quantization, s_checkpointing, s_optimizer, s_shard, s_steps, s_config, s_device, Json,
        };
        ShapeOptions.ForEach(train.Options.Add);
        train.Validators.Add(static result =>
        {
            if (result.GetValue(s_mode) == "full" && result.GetValue(s_quantization) is not (null or "none"))
            {
                result.AddError("--quantization applies to --mode lora: quantized weights are not trained.");
            }
        });
        train.SetAction(RunTraining);
        _ = s_stored.OnlyFrom("float32", "bfloat16", "float16");
        var load = new Command("load", "Compares the time to load a checkpoint with the time to read its file; prints JSON.") { s_megabytes, s_stored, s_dtype, s_folder, s_device, Json };
        load.SetAction(RunLoading);
        _ = s_format.OnlyFrom("auto", "chat", "instruction", "completion", "text", "preference", "tokenized");
        var data = new Command("data", "Measures tokenizing a file of rows; prints JSON.") { s_tokenizer, s_input, s_format, Json };
        data.SetAction(RunData);
        return new Command("bench", "Measures the speed of training, generation, loading weights and tokenization on this machine.") { train, BenchGenerateCommand.Create(), BenchServeCommand.Create(), load, data };
    }

    internal static ModelShape Shape(ParseResult arguments, int maxPositions) => new()
    {
        HiddenSize = arguments.GetValue(s_hidden),
        Layers = arguments.GetValue(s_layers),
        Heads = arguments.GetValue(s_heads),
        KeyValueHeads = arguments.GetValue(s_keyValueHeads),
        IntermediateSize = arguments.GetValue(s_intermediate),
        VocabularySize = arguments.GetValue(s_vocabulary),
        MaxPositions = maxPositions,
        TiedEmbeddings = false,
        Experts = arguments.GetValue(s_experts),
        ExpertsPerToken = arguments.GetValue(s_expertsPerToken),
    };

    internal static string Family(ParseResult arguments) => arguments.GetValue(s_family)!;

    private static int RunLoading(ParseResult arguments)
    {
        Devices.UseAllCores();
        var stored = Devices.DType(arguments.GetValue(s_stored)!) ?? bfloat16;
        var computed = arguments.GetResult(s_dtype) is { Implicit: false } ? Devices.DType(arguments.GetValue(s_dtype)!) ?? stored : stored;
        var result = LoadingBenchmark.Run(
            arguments.GetValue(s_megabytes) * (1L << 20), stored, computed, Devices.Find(arguments.GetValue(s_device)!), Path.GetFullPath(arguments.GetValue(s_folder)!));
        JsonLines.Write(new JsonObject
        {
            ["file_bytes"] = result.FileBytes,
            ["read_seconds"] = Math.Round(result.ReadSeconds, 4),
            ["fresh_read_seconds"] = Math.Round(result.FreshReadSeconds, 4),
            ["load_seconds"] = Math.Round(result.LoadSeconds, 4),
            ["ratio"] = Math.Round(result.Ratio, 3),
            ["fresh_ratio"] = Math.Round(result.FreshRatio, 3),
            ["peak_memory_bytes"] = result.PeakMemoryBytes,
        });
        return ExitCode.Success;
    }

    private static int RunData(ParseResult arguments)
    {
        var result = DataBenchmark.Run(
            ModelPath.ResolveTokenizer(arguments.GetValue(s_tokenizer)!, new DownloadConsole(), Signals.Stop), new DataSource { Path = arguments.GetValue(s_input)!, Format = arguments.GetValue(s_format)! }, trainOn: "assistant");
        JsonLines.Write(new JsonObject
        {
            ["megabytes_per_second_per_core"] = Math.Round(result.BytesPerProcessorSecond / 1e6, 2),
            ["megabytes_per_second"] = Math.Round(result.BytesPerSecond / 1e6, 2),
            ["cores"] = result.Cores,
            ["file_bytes"] = result.Bytes,
            ["rows"] = result.Rows,
            ["tokens"] = result.Tokens,
            ["seconds"] = Math.Round(result.Seconds, 3),
            ["processor_seconds"] = Math.Round(result.ProcessorSeconds, 3),
            ["peak_memory_bytes"] = result.PeakMemoryBytes,
        });
        return ExitCode.Success;
    }

    private static int RunTraining(ParseResult arguments)
    {
        var length = arguments.GetValue(s_length);
        var shape = Shape(arguments, length);
        if (arguments.GetValue(s_config) is { } path)
        {
            File.WriteAllText(path, FamilyRegistry.Find(Family(arguments), "--family").NewConfig(shape).ToJsonString());
            return ExitCode.Success;
        }

        RankStart.Prepare();
        using var ranks = RunRanks.Join(arguments.GetValue(s_device)!);
        Devices.UseAllCores();
        var result = ranks.Guard(() => TrainingBenchmark.Run(new TrainingBenchmarkOptions
        {
            Ranks = ranks,
            Shard = arguments.GetValue(s_shard)!,
            Family = Family(arguments),
            Shape = shape,
            RowLength = length,
            BatchSize = arguments.GetValue(s_batch),
            Rank = arguments.GetValue(s_mode) == "lora" ? arguments.GetValue(s_rank) : null,
            Quantization = QuantizationSettings.Of(arguments.GetValue(s_quantization)),
            DType = Devices.DType(arguments.GetValue(s_dtype)!) ?? float32,
            Device = Devices.Find(arguments.GetValue(s_device)!),
            ActivationCheckpointing = arguments.GetResult(s_checkpointing) is null ? "none" : arguments.GetValue(s_checkpointing) ?? "block",
            Optimizer = arguments.GetValue(s_optimizer)!,
            Steps = arguments.GetValue(s_steps),
        }, Signals.Stop));
        if (!ranks.IsFirst)
        {
            return ExitCode.Success;
        }

        JsonLines.Write(new JsonObject
        {
            ["tokens_per_second"] = Math.Round(result.TokensPerSecond, 1),
            ["ranks"] = ranks.Count,
            ["communication_seconds"] = Math.Round(result.CommunicationSeconds, 4),
            ["peak_memory_bytes"] = result.PeakMemoryBytes,
            ["peak_tensor_bytes"] = result.PeakTensorBytes,
            ["estimated_memory_bytes"] = result.EstimatedMemoryBytes,
            ["loss"] = result.Loss,
            ["step_seconds"] = result.StepSeconds,
            ["update_seconds"] = result.UpdateSeconds,
            ["optimizer_bytes"] = result.OptimizerBytes,
            ["trained_parameters"] = result.TrainedParameters,
            ["matrix_rate_gflops"] = Math.Round(result.MatrixRate / 1e9, 1),
            ["utilization"] = Math.Round(result.Utilization, 4),
        });
        return ExitCode.Success;
    }
}
