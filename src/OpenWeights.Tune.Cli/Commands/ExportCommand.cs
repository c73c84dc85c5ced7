using System.CommandLine;
using System.Globalization;
using OpenWeights.Formats.Files;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>owt export.</summary>
internal static class ExportCommand
{
    private static readonly Option<string> s_format = new("--format") { Description = "peft: an adapter folder; merged: a model folder with the adapter merged in.", Required = true };
    private static readonly Option<string> s_model = CommonOptions.Model();
    private static readonly Option<string[]> s_adapter = CommonOptions.Adapters("The folder of the adapter; merged: DIR=0.7 takes so much of it, and several are added up.");
    private static readonly Option<string> s_output = new("--output") { Description = "The folder to write; it must not exist.", HelpName = "PATH", Required = true };
    private static readonly Option<string?> s_dtype = new("--dtype") { Description = "merged: f32, f16 or bf16 for all weights; left out, the base's own." };
    private static readonly Option<string> s_maxShardSize = new("--max-shard-size") { Description = "merged: the largest weight file, such as 5GB or 500MB.", DefaultValueFactory = static _ => "5GB" };
    private static readonly Option<string?> s_quantization = new("--quantization") { Description = "merged: none, nf4 or int8; the base's linear layers as they are after that quantisation, which is what an adapter trained so has seen." };
    private static readonly Option<string> s_device = CommonOptions.Device();

    internal static Command Create()
    {
        _ = s_format.AcceptOnlyFromAmong("peft", "merged");
        _ = s_dtype.AcceptOnlyFromAmong("f32", "f16", "bf16");
        s_adapter.Required = true;
        _ = s_quantization.AcceptOnlyFromAmong("none", "nf4", "int8");
        s_maxShardSize.Validators.Add(static result =>
        {
            if (Size(result.GetValueOrDefault<string>()!) is null)
            {
                result.AddError("--max-shard-size must be a size such as 5GB or 500MB.");
            }
        });
        var command = new Command("export", "Writes a trained adapter for use elsewhere, and checks what it wrote.") { s_format, s_model, s_adapter, s_output, s_dtype, s_maxShardSize, s_quantization, s_device };
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

        var adapters = arguments.GetValue(s_adapter)!;
        if (arguments.GetValue(s_format) == "peft" && (adapters.Length > 1 || AdapterChoice.Parse(adapters[0]).Weight != 1))
        {
            Console.Error.WriteLine("error: --format peft writes one adapter as it is; a combination can be merged (--format merged).");
            return ExitCode.Usage;
        }

        using var session = new ModelSession(arguments.GetValue(s_model)!, adapters, "auto", arguments.GetValue(s_device)!, arguments.GetValue(s_quantization));
        if (arguments.GetValue(s_format) == "peft")
        {
            Peft(session, output);
        }
        else
        {
            Merged(session, output, arguments);
        }

        return ExitCode.Success;
    }

    private static void Peft(ModelSession session, string output)
    {
        var adapter = session.Adapters[session.Adapters.Names.First()];
        AtomicFolder.Write(output, work => PeftFolder.Save(adapter, work, session.Loaded.Folder.FolderPath));
        using var written = AdapterFolder.Open(output).OpenWeights();
        using var scope = NewDisposeScope();
        var tensors = PeftFolder.Tensors(adapter);
        foreach (var (name, tensor) in tensors)
        {
            if (!TensorFiles.Read(written, $"base_model.model.{name}").eq(tensor.cpu()).all().item<bool>())
            {
                throw new IOException($"{output}: tensor {name} reads back otherwise than it was written; is the disk sound?");
            }
        }

        Console.Out.WriteLine($"adapter written to {output}; all {tensors.Count} tensors read back the same");
        foreach (var warning in AdapterLimits.Of(AdapterFolder.Open(output).Config, written))
        {
            Console.Error.WriteLine($"warning: {warning}");
        }
    }

    private static void Merged(ModelSession session, string output, ParseResult arguments)
    {
        TorchSharp.torch.ScalarType? dtype = arguments.GetValue(s_dtype) switch
        {
            "f32" => float32,
            "f16" => float16,
            "bf16" => bfloat16,
            _ => null,
        };
        var unties = MergedExport.Write(session.Loaded, session.Adapters.Active!, output, dtype, Size(arguments.GetValue(s_maxShardSize)!) ?? CheckpointWriter.DefaultShardBytes);
        var found = MergedExport.Verify(session.Loaded, output);
        Console.Out.WriteLine($"model written to {output}");
        if (unties)
        {
            Console.Out.WriteLine("embedding and output head were one weight and now differ: both are written, and config.json says tie_word_embeddings: false");
        }

        if (session.Model.LinearLayers.Any(static l => l.Layer.Quantized is not null))
        {
            Console.Out.WriteLine($"the base's linear layers are the values that {arguments.GetValue(s_quantization)} leaves of them, as the adapter saw them in training, and not the original weights; without --quantization it is merged into the originals");
        }

        Console.Out.WriteLine($"read back and run: its logits differ from base and adapter's by at most {Amount.Number(found.Difference, "0.0e0")} (the largest logit is {Amount.Number(found.Largest, "F1")}); divergence of its next-token probabilities {Amount.Number(found.Divergence, "0.0e0")} nats a token");
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
