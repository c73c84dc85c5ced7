using OpenWeights.Formats.Files;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Export.Gguf;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Families;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>Writes an export, checks it, and says what it found.</summary>
internal sealed class ExportWork(string model, string? adapterPath, string output, bool? verify, string device)
{
    private const long SmallModelBytes = 4L << 30;
    private readonly string _modelPath = ModelPath.Resolve(model, new DownloadConsole(), Signals.Stop);

    internal void Peft()
    {
        using var outline = ModelLoader.Outline(_modelPath);
        using var adapter = Adapter(outline);
        AtomicFolder.Write(output, work => PeftFolder.Save(adapter, work, ModelPath.NameOf(outline.Folder.FolderPath)));
        var folder = AdapterFolder.Open(output);
        using var written = folder.OpenWeights();
        using var scope = NewDisposeScope();
        foreach (var (name, parameter) in adapter.Parameters)
        {
            if (!TensorFiles.Read(written, $"base_model.model.{name}").eq(parameter.cpu()).all().item<bool>())
            {
                throw new IOException($"{output}: tensor {name} reads back otherwise than it was written; is the disk sound?");
            }
        }

        foreach (var warning in PeftLint.Check(folder.Config))
        {
            Console.Error.WriteLine($"warning: {warning}");
        }

        Console.Out.WriteLine($"adapter written to {output}; all {adapter.Parameters.Count} tensors read back the same");
    }

    internal void Merged(string? dtypeName, long maxShardBytes)
    {
        TorchSharp.torch.ScalarType? dtype = dtypeName switch
        {
            "f32" => float32,
            "f16" => float16,
            "bf16" => bfloat16,
            _ => null,
        };
        WithOutline((folder, adapter) => MergedExport.Write(folder, adapter, output, dtype, maxShardBytes, ModelCard.Write(folder, model, adapterPath)));
        Console.Out.WriteLine($"model written to {output}");
        if (MayVerify())
        {
            Verify(output);
        }
    }

    internal void Gguf(string? dtypeName)
    {
        var preset = dtypeName is null ? GgufExport.OwnPreset(ModelFolder.Open(_modelPath)) : GgufPreset.Of(dtypeName);
        WithOutline((folder, adapter) => GgufExport.Write(folder, adapter, output, preset));
        Console.Out.WriteLine($"model written to {output} ({preset.Name}, {Amount.Bytes(new FileInfo(output).Length)})");
        if (!MayVerify())
        {
            return;
        }

        var unpacked = Directory.CreateTempSubdirectory("owt verify ").FullName;
        try
        {
            GgufFolder.Unpack(output, unpacked);
            Verify(unpacked);
        }
        finally
        {
            Directory.Delete(unpacked, recursive: true);
        }
    }

    internal void GgufLora()
    {
        using var outline = ModelLoader.Outline(_modelPath);
        using var adapter = Adapter(outline);
        GgufLoraExport.Write(outline.Folder, adapter, output);
        var tensors = GgufLoraExport.RequireSame(outline.Folder, adapter, output);
        Console.Out.WriteLine($"adapter written to {output}; all {tensors} tensors read back the same");
    }

    // Without an adapter the decoder is not needed, so a base of a family that only llama.cpp runs can be written too.
    private void WithOutline(Action<ModelFolder, LoraAdapter?> write)
    {
        if (adapterPath is null)
        {
            write(ModelFolder.Open(_modelPath), null);
            return;
        }

        using var outline = ModelLoader.Outline(_modelPath);
        using var adapter = Adapter(outline);
        write(outline.Folder, adapter);
    }

    private LoraAdapter Adapter(LoadedModel on) => PeftFolder.Load(on.Model, adapterPath!, static warning => Console.Error.WriteLine($"warning: {warning}"));

    private bool MayVerify()
    {
        if (verify is { } wanted)
        {
            return wanted;
        }

        var folder = ModelFolder.Open(_modelPath);
        if (!FamilyRegistry.All.Any(family => family.ModelType == folder.Config["model_type"]?.ToString()))
        {
            Console.Out.WriteLine("not read back: this version does not run models of this family");
            return false;
        }

        using var weights = folder.OpenWeights();
        if (weights.ByteLength < SmallModelBytes)
        {
            return true;
        }

        Console.Out.WriteLine("not read back: the model is large; --verify does it");
        return false;
    }

    private void Verify(string folder)
    {
        using var original = ModelLoader.Load(_modelPath, null, Devices.Find(device));
        using var adapter = adapterPath is null ? null : Adapter(original);
        var found = ExportVerification.Of(original.Model, folder);
        Console.Out.WriteLine(
            $"read back and run: its logits differ from {(adapterPath is null ? "the base's" : "base and adapter's")} by at most {Amount.Number(found.Difference, "0.0e0")} "
            + $"(the largest logit is {Amount.Number(found.Largest, "F1")}); the likeliest token is the same at {found.Agreeing} of {found.Positions} positions");
    }
}
