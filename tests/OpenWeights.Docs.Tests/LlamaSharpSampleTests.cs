using System.Diagnostics;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Docs.Tests;

/// <summary>samples/llamasharp runs what is exported here, and says what owt says.</summary>
internal sealed class LlamaSharpSampleTests
{
    private static readonly string[] s_questions =
        ["Give the ISO date of April third, nineteen oh six.", "Give the ISO date of the twenty-eighth of October, nineteen twenty-eight.", "Which month is May?"];

    [Test]
    [Platform(Exclude = "Win", Reason = "the commands are run by a POSIX shell")]
    public void An_exported_file_and_an_exported_adapter_answer_as_owt_does()
    {
        RequiredLlamaCpp.Check();
        using var folder = new PageFolder(port: 0);
        var model = Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base");
        folder.Run("owt train configs/quickstart.yaml training.max_steps=60 evaluation.generate_rows=0 output_dir=run", "train");
        folder.Run($"owt export --format gguf --dtype f32 --model '{model}' --adapter run --data-rows 0 --output merged.gguf", "export");
        folder.Run($"owt export --format gguf --dtype f32 --model '{model}' --data-rows 0 --output base.gguf", "export");
        folder.Run($"owt export --format gguf-lora --model '{model}' --adapter run --data-rows 0 --output lora.gguf", "export");
        folder.Write("messages.jsonl", string.Concat(s_questions.Select(static q => $$"""{"messages": [{"role": "user", "content": "{{q}}"}]}""" + "\n")));
        foreach (var (name, ours, sample) in new (string, string, string[])[] { ("merged", "run", ["merged.gguf"]), ("base", model, ["base.gguf"]), ("adapter", "run", ["base.gguf", "lora.gguf"]) })
        {
            foreach (var question in s_questions)
            {
                folder.Run($"owt generate --model '{ours}' --message '{question}' --max-new-tokens 32 > expected.txt", name);
                var expected = File.ReadAllText(folder.At("expected.txt")).Trim();
                Assert.That(Sample(folder, [sample[0], question, .. sample[1..]]), Is.EqualTo(expected), $"{name}: {question}");
            }
        }
    }

    private static string Sample(PageFolder folder, string[] arguments)
    {
        var start = new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, "LlamaSharpSample.dll"), .. arguments]) { WorkingDirectory = folder.At(), RedirectStandardOutput = true, RedirectStandardError = true };
        using var process = Process.Start(start)!;
        var (output, error) = (process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
        Assert.That(process.WaitForExit(TimeSpan.FromMinutes(2)), Is.True, "the sample came to no end");
        Assert.That(process.ExitCode, Is.Zero, () => error.Result);
        return output.Result.Trim();
    }
}
