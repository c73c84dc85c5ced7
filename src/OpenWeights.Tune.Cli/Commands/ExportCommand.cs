using System.CommandLine;
using System.Globalization;
using OpenWeights.Formats.Files;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>owt export.</summary>
internal static class ExportCommand
{
    private static readonly Option<string> s_format = new("--format") { Description = "peft: an adapter folder; merged: a model folder with the adapter merged in.", Required = true };
    private static readonly Option<string> s_model = CommonOptions.Model();
    private static readonly Option<string> s_adapter = new("--adapter") { Description = "The folder of the adapter.", HelpName = "DIR", Required = true };
    private static readonly Option<string> s_output = new("--output") { Description = "The folder to write; it must not exist.", HelpName = "PATH", Required = true };
    private static readonly Option<string?> s_dtype = new("--dtype") { Description = "merged: f32, f16 or bf16 for all weights; left out, the base's own." };
    private static readonly Option<string> s_maxShardSize = new("--max-shard-size") { Description = "merged: the largest weight file, such as 5GB or 500MB.", DefaultValueFactory = static _ => "5GB" };
    private static readonly Option<string> s_device = CommonOptions.Device();

    internal static Command Create()
    {
        _ = s_format.AcceptOnlyFromAmong("peft", "merged");
        _ = s_dtype.AcceptOnlyFromAmong("f32", "f16", "bf16");
        s_maxShardSize.Validators.Add(static result =>
        {
            if (Size(result.GetValueOrDefault<string>()!) is null)
            {
                result.AddError("--max-shard-size must be a size such as 5GB or 500MB.");
            }
        });
        var command = new Command("export", "Writes a trained adapter for use elsewhere, and checks what it wrote.") { s_format, s_model, s_adapter, s_output, s_dtype, s_maxShardSize, s_device };
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        var output = Path.GetFullPath(arguments.GetValue(s_output)!);
        if (Path.Exists(output))
        {
            throw new IOException($"{output} exists already; give another --output, or remove it.");
        }

        Devices.UseAllCores();
        using var loaded = ModelLoader.Load(arguments.GetValue(s_model)!, null, Devices.Find(arguments.GetValue(s_device)!));
        using var adapter = PeftFolder.Load(loaded.Model, arguments.GetValue(s_adapter)!, static warning => Console.Error.WriteLine($"warning: {warning}"));
        if (arguments.GetValue(s_format) == "peft")
        {
            Peft(loaded, adapter, output);
        }
        else
        {
            Merged(loaded, adapter, output, arguments);
        }

        return ExitCode.Success;
    }

    private static void Peft(LoadedModel loaded, LoraAdapter adapter, string output)
    {
        AtomicFolder.Write(output, work => PeftFolder.Save(adapter, work, loaded.Folder.FolderPath));
        using var written = AdapterFolder.Open(output).OpenWeights();
        using var scope = NewDisposeScope();
        foreach (var (name, parameter) in adapter.Parameters)
        {
            if (!TensorFiles.Read(written, $"base_model.model.{name}").eq(parameter.cpu()).all().item<bool>())
            {
                throw new IOException($"{output}: tensor {name} reads back otherwise than it was written; is the disk sound?");
            }
        }

        Console.Out.WriteLine($"adapter written to {output}; all {adapter.Parameters.Count} tensors read back the same");
    }

    private static void Merged(LoadedModel loaded, LoraAdapter adapter, string output, ParseResult arguments)
    {
        TorchSharp.torch.ScalarType? dtype = arguments.GetValue(s_dtype) switch
        {
            "f32" => float32,
            "f16" => float16,
            "bf16" => bfloat16,
            _ => null,
        };
        MergedExport.Write(loaded, adapter, output, dtype, Size(arguments.GetValue(s_maxShardSize)!) ?? CheckpointWriter.DefaultShardBytes);
        var (difference, largest) = MergedExport.Verify(loaded, output);
        Console.Out.WriteLine($"model written to {output}");
        Console.Out.WriteLine($"read back and run: its logits differ from base and adapter's by at most {Amount.Number(difference, "0.0e0")} (the largest logit is {Amount.Number(largest, "F1")})");
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
