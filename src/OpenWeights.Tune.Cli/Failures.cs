using System.Runtime.InteropServices;
using System.Text.Json;
using OpenWeights.Hub;
using OpenWeights.Tokenizers.Templates;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Cli;

/// <summary>Turns exceptions into a sentence on stderr and an exit code.</summary>
internal static class Failures
{
    internal static int Report(Func<int> work, bool verbose, string command = "")
    {
        try
        {
            return work();
        }
        catch (ConfigException e)
        {
            foreach (var problem in e.Problems)
            {
                Console.Error.WriteLine($"error: {problem}");
            }

            Trace(e, verbose);
            return e.Problems.All(static p => p.IsFile) ? ExitCode.BadFiles : ExitCode.Usage;
        }
        catch (OperationCanceledException)
        {
            return ExitCode.Stopped;
        }
#pragma warning disable CA1031 // the last resort of a program: whatever happened becomes a sentence and an exit code
        catch (Exception e)
#pragma warning restore CA1031
        {
            var again = TorchFailure(e) is not null && ForgetProof() ? " Start again: scripts/owt then looks for a torch runtime that works here." : "";
            Console.Error.WriteLine($"error: {Sentence(e, command)}{again}");
            Trace(e, verbose);
            return Code(e);
        }
    }

    private static int Code(Exception e) => e switch
    {
        InvalidDataException or FileNotFoundException or DirectoryNotFoundException or HubRefusedException or JsonException or ChatTemplateException => ExitCode.BadFiles,
        _ => ExitCode.Failed,
    };

    private static string Sentence(Exception e, string command) => TorchFailure(e) ?? e switch
    {
        OutOfMemoryException => $"out of memory.{LessMemory(command)}",
        ExternalException when IsOutOfMemory(e.Message) =>
            $"{FirstLine(e.Message)}{LessMemory(command)}",
        ExternalException => $"torch: {FirstLine(e.Message)}",
        ArgumentException { ParamName: { } name } => e.Message.Replace($" (Parameter '{name}')", "", StringComparison.Ordinal),
        InvalidDataException or IOException or UnauthorizedAccessException or TrainingFailedException or ChatTemplateException or NotSupportedException or ArgumentException => e.Message,
        _ => $"{e.GetType().Name}: {e.Message} (this is a fault of the program; --verbose shows where)",
    };

    // What the person in front of the command can change.
    private static string LessMemory(string command) => command switch
    {
        "train" or "estimate" =>
            " Lower training.micro_batch_size and raise training.gradient_accumulation_steps as much, which --resume takes too; or set training.activation_checkpointing, or lower data.max_length. `owt estimate` tells what fits.",
        "evaluate" => " Lower --batch-size, or hold the model in --quantization nf4.",
        "generate" or "chat" or "score" => " Give less text at a time, or hold the model in --quantization nf4.",
        _ => "",
    };

    // Torch that cannot be loaded: told by us, or, where something used torch before it was asked for, thrown by a static constructor of TorchSharp's or ours.
    private static string? TorchFailure(Exception e) => e switch
    {
        TorchUnavailableException => e.Message,
        TypeInitializationException { InnerException: TypeInitializationException inner } => TorchFailure(inner),
        TypeInitializationException { InnerException: { } inner } failed when IsOfTorch(failed.TypeName) =>
            $"torch cannot be loaded: {FirstLine(inner.Message)} `owt doctor` tells more.",
        _ => null,
    };

    private static bool IsOfTorch(string type) => type.StartsWith("TorchSharp.", StringComparison.Ordinal) || type.StartsWith("OpenWeights.LibTorch.", StringComparison.Ordinal);

    // scripts/owt starts without a look at torch as long as the file is there that tells what worked; without it, it looks again, and chooses again.
    private static bool ForgetProof()
    {
        try
        {
            if (Environment.GetEnvironmentVariable("OWT_PROOF") is { Length: > 0 } proof && File.Exists(proof))
            {
                File.Delete(proof);
                return true;
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // It stays, and the next start fails with the same sentence.
        }

        return false;
    }

    private static bool IsOutOfMemory(string message) =>
        message.Contains("out of memory", StringComparison.OrdinalIgnoreCase) || message.Contains("can't allocate memory", StringComparison.OrdinalIgnoreCase);

    private static string FirstLine(string text) => text.Split('\n')[0].TrimEnd('.') + ".";

    private static void Trace(Exception e, bool verbose)
    {
        if (verbose)
        {
            Console.Error.WriteLine(e);
        }
    }
}
