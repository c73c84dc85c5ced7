using System.CommandLine;
using System.CommandLine.Parsing;
using OpenWeights.Tune.Cli.Commands;
using OpenWeights.Tune.Cli.Completion;
using OpenWeights.Tune.Distributed;

namespace OpenWeights.Tune.Cli;

/// <summary>The commands.</summary>
internal static class CommandLine
{
    internal static readonly Option<bool> Verbose = new("--verbose") { Description = "Show the stack trace of an error.", Recursive = true };

    private static readonly List<(string Name, Func<Command> Create)> s_commands =
    [
        ("train", TrainCommand.Create),
        ("launch", LaunchCommand.Create),
        ("validate", ValidateCommand.Create),
        ("convert", ConvertCommand.Create),
        ("estimate", EstimateCommand.Create),
        ("data", DataCommand.Create),
        ("generate", GenerateCommand.Create),
        ("chat", ChatCommand.Create),
        ("serve", ServeCommand.Create),
        ("score", ScoreCommand.Create),
        ("evaluate", EvaluateCommand.Create),
        ("tokenize", TokenizeCommand.Create),
        ("render", RenderCommand.Create),
        ("export", ExportCommand.Create),
        ("inspect", InspectCommand.Create),
        ("download", DownloadCommand.Create),
        ("push", PushCommand.Create),
        ("init", InitCommand.Create),
        ("bench", BenchCommand.Create),
        ("recipes", RecipesCommand.Create),
        ("doctor", DoctorCommand.Create),
        ("completion", CompletionCommand.Create),
    ];

    /// <summary>Names of the commands.</summary>
    internal static IEnumerable<string> Commands => s_commands.Select(static c => c.Name);

    /// <summary>Runs the program and returns its exit code.</summary>
    internal static int Run(string[] arguments)
    {
        if (Completions.Answer(arguments, Root, Console.Out))
        {
            return ExitCode.Success;
        }

        // Commands are case-insensitive.
        if (arguments.Length > 0 && s_commands.FirstOrDefault(c => c.Name.Equals(arguments[0], StringComparison.OrdinalIgnoreCase)).Name is { } name)
        {
            arguments = [name, .. arguments[1..]];
        }

        var result = Root(arguments.FirstOrDefault()).Parse(arguments);
        if (result.Errors.Count > 0 && result.CommandResult.Command.Subcommands.Count > 0 && result.UnmatchedTokens.Count == 0)
        {
            // A command is missing; the help lists the commands.
            _ = result.RootCommandResult.Command.Parse([.. Path(result.CommandResult).Split(' ', StringSplitOptions.RemoveEmptyEntries), "--help"]).Invoke(new InvocationConfiguration { Output = Console.Error });
            return ExitCode.Usage;
        }

        if (result.Action is not Examples.Help && CommandErrors.Of(result, arguments) is { Count: > 0 } errors)
        {
            foreach (var error in errors)
            {
                Console.Error.WriteLine($"error: {error}");
            }

            Console.Error.WriteLine($"Run `owt{Path(result.CommandResult)} --help` for help.");
            return ExitCode.Usage;
        }

        using var signals = new Signals();
        RankStart.EndsLate = static sentence =>
        {
            Console.Error.WriteLine($"error: {sentence}");
            ProcessEnd.AtOnce(ExitCode.Failed);
        };
        var code = Failures.Report(
            () => result.Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null }),
            result.GetValue(Verbose),
            result.CommandResult.Command.Name);
        if (Signals.HasCome || (code != ExitCode.Success && RankStart.HasJoined))
        {
            // Everything is saved. Cancelled work may still be running on other threads, and another signal may arrive while the program
            // ends; a transfer to another rank may never end.
            ProcessEnd.AtOnce(code);
        }

        return code;
    }

    // Names of the given commands, outermost first.
    private static string Path(CommandResult given) =>
        given.Command is RootCommand ? "" : (given.Parent is CommandResult outer ? Path(outer) : "") + $" {given.Command.Name}";

    /// <summary>The program with the command named first, or with all of them: creating all commands' options takes longer than the rest of startup.</summary>
    internal static RootCommand Root(string? first = null)
    {
        var root = new RootCommand("Fine-tunes open-weight language models as described in a YAML file.");
        root.Options.Add(Verbose);
        var known = s_commands.Where(c => c.Name == first).ToList();
        foreach (var (_, create) in known.Count > 0 ? known : s_commands)
        {
            root.Subcommands.Add(create());
        }

        CommandErrors.CheckValuesFirst(root);
        PathArguments.Prepare(root);
        JudgeValuesFirst(root);
        Examples.AddTo(root);
        return root;
    }

    // What a command makes of its options together cannot be told where one of them lacks its value or has a wrong one; that is told of the option itself.
    private static void JudgeValuesFirst(Command command)
    {
        for (var i = 0; i < command.Validators.Count; i++)
        {
            var check = command.Validators[i];
            command.Validators[i] = result =>
            {
                try
                {
                    check(result);
                }
                catch (InvalidOperationException)
                {
                }
            };
        }

        foreach (var inner in command.Subcommands)
        {
            JudgeValuesFirst(inner);
        }
    }
}
