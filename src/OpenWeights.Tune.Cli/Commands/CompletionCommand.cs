using System.CommandLine;
using OpenWeights.Tune.Cli.Completion;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>The command owt completion.</summary>
internal static class CompletionCommand
{
    private static readonly Argument<string> s_shell = new("shell") { Description = $"The shell: {string.Join(", ", CompletionScripts.Shells)}.", HelpName = "SHELL" };

    internal static Command Create()
    {
        var command = new Command("completion", "Prints what a shell reads to complete commands, options, settings and models.") { s_shell };
        s_shell.CompletionSources.Add([.. CompletionScripts.Shells]);
        s_shell.Validators.Add(static result =>
        {
            foreach (var token in result.Tokens.Where(static t => !CompletionScripts.Shells.Contains(t.Value)))
            {
                result.AddError($"'{token.Value}' is not a shell that is known; known are {string.Join(", ", CompletionScripts.Shells)}.{Spelling.DidYouMean(token.Value, CompletionScripts.Shells)}");
            }
        });
        command.SetAction(static arguments =>
        {
            Console.Out.Write(CompletionScripts.Of(arguments.GetValue(s_shell)!));
            return ExitCode.Success;
        });
        return command;
    }
}
