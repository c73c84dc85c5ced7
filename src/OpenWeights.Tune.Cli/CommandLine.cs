using System.CommandLine;
using System.CommandLine.Parsing;
using OpenWeights.Tune.Cli.Commands;

namespace OpenWeights.Tune.Cli;

/// <summary>The commands, a line for each.</summary>
internal static class CommandLine
{
    internal static readonly Option<bool> Verbose = new("--verbose") { Description = "Show where an error came from.", Recursive = true };

    /// <summary>Runs the program and gives its exit code.</summary>
    internal static int Run(string[] arguments)
    {
        var result = Root().Parse(arguments);
        if (result.Errors.Count > 0)
        {
            foreach (var error in result.Errors)
            {
                Console.Error.WriteLine($"error: {error.Message}");
            }

            Console.Error.WriteLine($"Run `owt{Path(result.CommandResult)} --help` to see what is possible.");
            return ExitCode.Usage;
        }

        using var signals = new Signals();
        return Failures.Report(
            () => result.Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null }),
            result.GetValue(Verbose));
    }

    // The names of the commands that were given, outermost first.
    private static string Path(CommandResult given) =>
        given.Command is RootCommand ? "" : (given.Parent is CommandResult outer ? Path(outer) : "") + $" {given.Command.Name}";

    private static RootCommand Root()
    {
        var root = new RootCommand("Fine-tunes open-weight language models: a YAML file in, an adapter or a model out.");
        root.Options.Add(Verbose);
        foreach (var command in new[]
        {
            TrainCommand.Create(),
            ValidateCommand.Create(),
            EstimateCommand.Create(),
            DataCommand.Create(),
            GenerateCommand.Create(),
            ChatCommand.Create(),
            ScoreCommand.Create(),
            EvaluateCommand.Create(),
            TokenizeCommand.Create(),
            RenderCommand.Create(),
            ExportCommand.Create(),
            InspectCommand.Create(),
            DownloadCommand.Create(),
            InitCommand.Create(),
            BenchCommand.Create(),
            DoctorCommand.Create(),
        })
        {
            root.Subcommands.Add(command);
        }

        return root;
    }
}
