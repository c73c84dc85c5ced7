using System.CommandLine;
using System.Globalization;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Comparison;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Export.Packed;
using OpenWeights.Tune.Export.Gguf;
using OpenWeights.Tune.Torch;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>The command owt export.</summary>
internal static class ExportCommand
{
    private static readonly Option<string> s_format = new("--format") { Description = "peft: an adapter folder; merged: a model folder with the adapter merged in; gguf: that model as one file for llama.cpp; gguf-lora: the adapter alone for llama.cpp.", Required = true };
    private static readonly Option<string> s_model = CommonOptions.Model();
    private static readonly Option<string[]> s_adapter = CommonOptions.Adapters("Folder of the adapter. merged and gguf: DIR=0.7 scales it, several are summed, and without one the base model is exported.");
    private static readonly Option<string> s_output = new("--output") { Description = "Folder or GGUF file to write; it must not exist.", HelpName = "PATH", Required = true };
    private static readonly Option<string> s_experts = new("--experts") { Description = "peft: how an adapter of a mixture's experts is written. stacked: as PEFT 0.21 does; separate: with an update of each expert, as earlier PEFT, for servers that read only that.", DefaultValueFactory = static _ => "stacked" };
    private static readonly Option<string?> s_dtype = new("--dtype") { Description = "merged: f32, f16 or bf16; gguf: these, q8_0, q6_k, q5_k_m, q5_k_s, q4_k_m, q4_0, q3_k_m, q2_k or mxfp4_moe. Left out, the base's own." };
    private static readonly Option<string> s_maxShardSize = new("--max-shard-size") { Description = "merged: maximum size of a weight file, such as 5GB or 500MB.", DefaultValueFactory = static _ => "5GB" };
    private static readonly Option<bool> s_anyBase = CommonOptions.AnyBase();
    private static readonly Option<string?> s_quantization = new("--quantization") { Description = "merged: write the linear layers quantized: nf4, nf4_double or int8 (bitsandbytes), fp8 (blocks of 128 x 128), or mxfp4 (the experts of gpt_oss); none, the default, in --dtype." };
    private static readonly Option<string?> s_baseQuantization = new("--base-quantization") { Description = "merged and gguf: none, nf4 or int8; take the base's linear layers with the values after this quantization, as an adapter trained with it has seen them." };
    private static readonly Option<bool?> s_verify = new("--verify") { Description = "Load the exported model and compare its logits with the trained model's; by default only for models below 4 GB." };
    private static readonly Option<string[]> s_data = new("--data") { Description = "Rows on which base model, base with adapter, and exported model are compared; by default the eval rows of the adapter's run.", HelpName = "FILE" };
    private static readonly Option<int> s_dataRows = CommonOptions.Number("--data-rows", "Maximum number of rows to compare; 0 for none.", 10, 0);
    private static readonly Option<string?> s_combine = new("--combine") { Description = "peft: make one adapter of several, each with its weight (--adapter DIR=0.7), as PEFT's add_weighted_adapter does.", HelpName = "TYPE" };
    private static readonly Option<double> s_density = new("--density") { Description = "--combine: fraction of values that ties, dare and magnitude_prune keep.", DefaultValueFactory = static _ => 0.5 };
    private static readonly Option<string> s_majority = new("--majority-sign") { Description = "--combine: sign that ties keeps, of the sum of the values (total) or of most adapters (frequency).", DefaultValueFactory = static _ => "total" };
    private static readonly Option<int?> s_svdRank = new("--svd-rank") { Description = "--combine: rank of the result of svd types; by default the largest of the adapters." };
    private static readonly Option<string> s_device = CommonOptions.Device();

    private static readonly Option<bool> s_json = CommonOptions.Json();

    internal static Command Create()
    {
        _ = s_format.OnlyFrom("peft", "merged", "gguf", "gguf-lora");
        _ = s_experts.OnlyFrom("stacked", "separate");
        _ = s_dtype.OnlyFrom([.. GgufPreset.Names]);
        _ = s_quantization.OnlyFrom(["none", .. WeightPackers.Names]);
        _ = s_baseQuantization.OnlyFrom("none", "nf4", "int8");
        _ = s_combine.OnlyFrom([.. AdapterCombination.Types]);
        _ = s_majority.OnlyFrom("total", "frequency");
        s_maxShardSize.Validators.Add(static result =>
        {
            if (Size(result.GetValueOrDefault<string>()!) is null)
            {
                result.AddError("--max-shard-size must be a size such as 5GB or 500MB.");
            }
        });
        var command = new Command("export", "Exports a trained adapter or merged model, and verifies the result.")
        {
            s_format, s_model, s_adapter, s_output, s_combine, s_density, s_majority, s_svdRank, s_experts, s_dtype, s_maxShardSize, s_quantization, s_baseQuantization, s_verify, s_data, s_dataRows, s_device, s_anyBase, s_json,
        };
        command.Validators.Add(Check);
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        var output = CommonOptions.NewOutput(arguments.GetValue(s_output)!);

        if (arguments.GetValue(s_json))
        {
            ExportComparison? comparison = null;
            var lines = PrintedText.Of(() => comparison = Export(arguments, output));
            JsonLines.Write(new { format = arguments.GetValue(s_format), output, bytes = Bytes(output), messages = lines, comparison = comparison?.Json() });
            return ExitCode.Success;
        }

        _ = Export(arguments, output);
        return ExitCode.Success;
    }

    private static ExportComparison? Export(ParseResult arguments, string output)
    {
        Devices.UseAllCores();
        var (model, own) = ModelPath.WithAdapter(arguments.GetValue(s_model)!);
        var choices = Adapters(arguments.GetValue(s_adapter));
        using var work = new ExportWork(model, [.. own is null ? choices : choices.Prepend(new AdapterChoice(own, 1))], arguments.GetValue(s_baseQuantization), output, arguments.GetValue(s_verify), arguments.GetValue(s_device)!, arguments.GetValue(s_anyBase))
        {
            Data = arguments.GetValue(s_data) ?? [],
            DataRows = arguments.GetValue(s_dataRows),
            SeparatesExperts = arguments.GetValue(s_experts) == "separate",
            Combination = arguments.GetValue(s_combine) is not { } type ? null
                : new AdapterCombination(type) { Density = arguments.GetValue(s_density), ByFrequency = arguments.GetValue(s_majority) == "frequency", SvdRank = arguments.GetValue(s_svdRank) },
        };
        if (work is { Data.Count: > 0, DataRows: > 0 })
        {
            // Problems with the rows are reported before anything is written.
            _ = ComparedRows.OfFiles(work.Data, work.DataRows, maxNewTokens: 64);
        }

        _ = Directory.CreateDirectory(Path.GetDirectoryName(output)!);
        switch (arguments.GetValue(s_format))
        {
            case "peft":
                work.Peft();
                break;
            case "merged":
                work.Merged(arguments.GetValue(s_dtype), Size(arguments.GetValue(s_maxShardSize)!) ?? CheckpointWriter.DefaultShardBytes, arguments.GetValue(s_quantization));
                break;
            case "gguf":
                work.Gguf(arguments.GetValue(s_dtype));
                break;
            default:
                work.GgufLora();
                break;
        }

        return work.Comparison;
    }

    private static long Bytes(string path) => File.Exists(path) ? new FileInfo(path).Length : new DirectoryInfo(path).EnumerateFiles("*", SearchOption.AllDirectories).Sum(static f => f.Length);

    // A run folder given as the model includes its adapter.
    private static bool HasOwnAdapter(string? model) => model is not null && ModelPath.WithAdapter(model).Adapter is not null;

    private static IEnumerable<AdapterChoice> Adapters(string[]? given) => (given ?? []).Select(AdapterChoice.Parse);

    private static void Check(System.CommandLine.Parsing.CommandResult result)
    {
        var format = result.GetValue(s_format);
        var adapters = Adapters(result.GetValue(s_adapter)).ToList();
        var wholeModel = format is "merged" or "gguf";
        if (!wholeModel && adapters.Count == 0 && !HasOwnAdapter(result.GetValue(s_model)))
        {
            result.AddError($"--format {format} wants --adapter.");
        }

        var combine = result.GetValue(s_combine);
        if (combine is not null && format != "peft")
        {
            result.AddError($"--combine makes one adapter folder of several (--format peft); --format {format} sums adapters by their weights.");
        }
        else if (combine is null && !wholeModel && adapters is not ([] or [{ Weight: 1 }]))
        {
            result.AddError($"--format {format} exports a single unscaled adapter; use --combine with --format peft, or --format merged or gguf, for a combination.");
        }

        if (result.GetValue(s_density) is not (>= 0 and <= 1) || result.GetValue(s_svdRank) is < 1)
        {
            result.AddError("--density must be from 0 to 1, and --svd-rank at least 1.");
        }

        if (format != "peft" && result.GetValue(s_experts) == "separate")
        {
            result.AddError($"--experts applies to --format peft; --format {format} writes no adapter of PEFT's.");
        }

        if (!wholeModel && result.GetValue(s_baseQuantization) is not (null or "none"))
        {
            result.AddError($"--base-quantization applies to merged models; --format {format} does not merge.");
        }

        if (format != "merged" && result.GetValue(s_quantization) is not (null or "none"))
        {
            result.AddError($"--quantization applies to --format merged; {(format == "gguf" ? "gguf has its own kinds, in --dtype, and --base-quantization for the values that an adapter was trained over" : $"--format {format} does not merge")}.");
        }

        if (result.GetValue(s_dtype) is { } dtype && (!wholeModel || (format == "merged" && dtype is not ("f32" or "f16" or "bf16"))))
        {
            result.AddError($"--dtype {dtype} is not supported with --format {format}.");
        }
    }

    private static long? Size(string text)
    {
        var digits = text.TakeWhile(static c => char.IsAsciiDigit(c) || c == '.').Count();
        var factor = text[digits..].Trim().ToUpperInvariant() switch
        {
            "" or "B" => 1,
            "KB" => 1e3,
            "MB" => 1e6,
            "GB" => 1e9,
            "KIB" => 1024,
            "MIB" => 1 << 20,
            "GIB" => 1 << 30,
            _ => 0.0,
        };
        return factor > 0 && double.TryParse(text[..digits], NumberStyles.Float, CultureInfo.InvariantCulture, out var number) && number * factor >= 1 ? (long)(number * factor) : null;
    }
}
