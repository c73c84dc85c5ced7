using OpenWeights.Formats.Families;
using OpenWeights.Formats.Files;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.Gguf.Families;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Json;
using OpenWeights.Tune.Export.Gguf;

namespace OpenWeights.Tune.Cli.Output;

/// <summary>Prints the contents of a GGUF file before it is written.</summary>
internal static class GgufText
{
    internal static void Write(GgufPlan plan, ModelFolder folder)
    {
        long bytes;
        using (var weights = folder.OpenWeights())
        {
            bytes = GgufFolder.Target(folder.FolderPath) is { } file ? FileLinks.File(file).Length : weights.ByteLength;
            if (FamilyTable.FindMultimodal(folder.Config) is not null && weights.OtherParts.Count > 0)
            {
                Console.Out.WriteLine($"of this multimodal model only the text model is written; the other {weights.OtherParts.Count} tensors ({Amount.Bytes(weights.OtherParts.Sum(static t => t.ByteLength))}), such as {weights.OtherParts[0].Name}, belong in llama.cpp's second file (mmproj), which its own converter makes");
            }
        }

        Console.Out.WriteLine($"writing {(plan.Preset.KeepsOwn ? $"the base's own types, mostly {plan.Preset.Name}" : plan.Preset.Name)}: {Amount.Bytes(plan.Bytes)} of tensors (the base has {Amount.Bytes(bytes)})");
        foreach (var fallback in plan.Fallbacks)
        {
            var (wanted, got) = (GgufPreset.NameOf(fallback.Wanted), GgufPreset.NameOf(fallback.Got));
            var why = fallback.IsOfLength
                ? $"rows such as those of {fallback.RowLength} values are no whole blocks of {fallback.Wanted.BlockLength()}"
                : $"{wanted} can be read here and not written";
            Console.Out.WriteLine($"  {fallback.Tensors} {(fallback.Tensors == 1 ? "tensor falls" : "tensors fall")} back from {wanted} to {got}, {Amount.Bytes(fallback.Bytes)} instead of {Amount.Bytes(fallback.WantedBytes)}: {why}");
        }

        if (RopeScaling.IsRoundedInLlamaCpp(new ConfigJson(folder.TextConfig, folder.FolderPath)))
        {
            Console.Error.WriteLine("warning: this model's YaRN changes from one frequency to the next between whole dimensions (truncate: false); llama.cpp rounds these bounds, also in its own files of the model, so its logits differ a little from the model's.");
        }

        if (plan.Suggestion is { } suggestion)
        {
            Console.Error.WriteLine($"warning: most of the file is not {plan.Preset.Name}, because the model's row lengths are not multiples of its block size; use --dtype {suggestion} instead.");
        }
    }
}
