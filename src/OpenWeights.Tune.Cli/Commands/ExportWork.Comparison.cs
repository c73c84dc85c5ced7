using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Export.Gguf;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Comparison;
using OpenWeights.Tune.Models.Weights;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>Compares the answers of what was written with those of base and adapter.</summary>
internal sealed partial class ExportWork
{
    // Base model, base with adapter, and the exported model, which is read with its own tokenizer, template and end tokens.
    private void Compare(Action<ExportComparison> addWritten)
    {
        // Answers and losses of tokens, which rewards, labels and embeddings have none of.
        if (_base is { Model.Config.Labels: not null } or { Embedding: not null } || LabelHead.Of(ModelFolder.Open(_modelPath).Config, _modelPath) is not null)
        {
            return;
        }

        if (ExportComparison.Of(Data, _choices, DataRows) is not { } comparison)
        {
            return;
        }

        Comparison = comparison;
        LoadBase();
        var trained = _choices.Select(static c => (c.Folder, c.Weight)).ToList();
        _adapters!.Use();
        comparison.Add("base", new OwnReader(_base!.Model, _base.Folder, _base.ChatTemplate));
        if (comparison.HasRows && trained.Count > 0)
        {
            _adapters.Use(trained);
            comparison.Add("base and adapter", new OwnReader(_base.Model, _base.Folder, _base.ChatTemplate));
        }

        if (comparison.HasRows)
        {
            addWritten(comparison);
        }

        comparison.Write();
    }

    private void AddAdapter(ExportComparison comparison)
    {
        _ = _adapters!.Load(_output, _output);
        _adapters.Use((_output, 1));
        _ = comparison.AddWritten(new OwnReader(_base!.Model, _base.Folder, PeftFolder.ChatTemplate(_output)));
    }

    private bool AddFolder(ExportComparison comparison, string folder)
    {
        using var written = ModelLoader.LoadOnto(folder, null, _base!.Model.Devices);
        return comparison.AddWritten(new OwnReader(written.Model, written.Folder));
    }

    // GGUF files are compared with llama.cpp; where it is unavailable, a model is read by owt. Nothing else reads llama.cpp's LoRA files.
    private void AddGguf(ExportComparison comparison, string path, string? lora, string? unpacked)
    {
        if (LlamaCpp(path, lora, out var why) is { } reader)
        {
            using (reader as IDisposable)
            {
                try
                {
                    // A second reader shows whether the weights or the first reader are at fault.
                    if (!comparison.AddWritten(reader) && unpacked is not null && AddFolder(comparison, unpacked))
                    {
                        comparison.Note("where owt reads it, it does as well: the weights are right, and what differs is how llama.cpp reads the file (its prompts, or its arithmetic, which rounds what goes into quantised weights to 8 bits)");
                    }

                    return;
                }
                catch (InvalidOperationException e)
                {
                    why = e.Message;
                }
            }
        }

        comparison.Note($"llama.cpp does not judge what was written: {why?.TrimEnd('.')}{(unpacked is null ? "" : "; owt reads it instead")}");
        if (unpacked is not null)
        {
            _ = AddFolder(comparison, unpacked);
        }
    }

    // A LoRA file is applied to a GGUF of the base model: the base itself, or a temporary one.
    private void AddGgufLora(ExportComparison comparison)
    {
        if (GgufFolder.Target(_base!.Folder.FolderPath) is { } target)
        {
            AddGguf(comparison, target, _output, null);
            return;
        }

        var folder = Directory.CreateTempSubdirectory("owt verify ").FullName;
        try
        {
            var path = Path.Combine(folder, "base.gguf");
            _ = GgufExport.Write(_base.Folder, null, path, GgufExport.OwnPreset(_base.Folder));
            AddGguf(comparison, path, _output, null);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static IModelReader? LlamaCpp(string path, string? lora, out string? why)
    {
#if LLAMA_CPP
        return LlamaCppReader.TryOpen(path, lora, out why);
#else
        why = "this owt was built without llama.cpp";
        return null;
#endif
    }
}
