using System.Runtime.InteropServices;
using System.Text.Json;
using OpenWeights.Hub;
using OpenWeights.Tokenizers.Templates;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Extensions;
using OpenWeights.Tune.Torch;

namespace OpenWeights.Tune.Cli;

/// <summary>Converts exceptions to one sentence on stderr and an exit code.</summary>
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
            var again = TorchFailure(e) is not null && ForgetProof() ? " Run the command again: scripts/owt then searches for a torch runtime that works here." : "";
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
        _ when OwnClass.Thrower(e) is { } own => $"{own.FullName} failed: {e.GetType().Name}: {FirstLine(e.Message)} --verbose shows the stack trace.",
        ExternalException when IsOutOfMemory(e.Message) =>
            $"{FirstLine(e.Message)}{LessMemory(command)}",
        ExternalException => $"torch: {FirstLine(e.Message)}",
        ArgumentException { ParamName: { } name } => e.Message.Replace($" (Parameter '{name}')", "", StringComparison.Ordinal),
        InvalidDataException or IOException or UnauthorizedAccessException or TrainingFailedException or RankFailedException or ChatTemplateException or NotSupportedException or ArgumentException => e.Message,
        _ => $"{e.GetType().Name}: {e.Message} (this is a bug in the program; --verbose shows the stack trace)",
    };

    // Errors that the user can fix.
    private static string LessMemory(string command) => command switch
    {
        "train" or "estimate" =>
            " Lower training.micro_batch_size and raise training.gradient_accumulation_steps in proportion (also possible with --resume); or set training.activation_checkpointing, or lower data.max_length. `owt estimate` shows what fits.",
        "evaluate" => " Lower --batch-size, or use --quantization nf4.",
        "serve" => " Lower --context, --cache-mb or --max-batch, or use --quantization nf4.",
        "generate" or "chat" or "score" => " Use shorter or fewer texts, or --quantization nf4.",
        _ => "",
    };

    // Torch cannot be loaded: reported by our check, or by a static constructor if something used torch before the check.
    private static string? TorchFailure(Exception e) => e switch
    {
        TorchUnavailableException => e.Message,
        TypeInitializationException { InnerException: TypeInitializationException inner } => TorchFailure(inner),
        TypeInitializationException { InnerException: { } inner } failed when IsOfTorch(failed.TypeName) =>
            $"torch cannot be loaded: {FirstLine(inner.Message)} `owt doctor` shows more.",
        _ => null,
    };

    private static bool IsOfTorch(string type) => type.StartsWith("TorchSharp.", StringComparison.Ordinal) || type.StartsWith("OpenWeights.LibTorch.", StringComparison.Ordinal);

    // scripts/owt skips its check of torch while the file of the last successful check exists; without the file it checks and selects
    // again.
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
            // The file stays, and the next start fails with the same message.
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

/// <summary>The program's exit codes.</summary>
internal static class ExitCode
{
    internal const int Success = 0;

    /// <summary>Invalid command line or config.</summary>
    internal const int Usage = 1;

    /// <summary>Invalid data or model files.</summary>
    internal const int BadFiles = 2;

    /// <summary>A failure at run time.</summary>
    internal const int Failed = 3;

    /// <summary>Stopped by Ctrl-C or SIGTERM, after saving.</summary>
    internal const int Stopped = 130;
}
