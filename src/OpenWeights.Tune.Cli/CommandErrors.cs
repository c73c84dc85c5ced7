using System.CommandLine;
using System.CommandLine.Parsing;
using OpenWeights.Tune.Cli.Commands;

namespace OpenWeights.Tune.Cli;

/// <summary>
/// Error messages for a command line: unknown commands and options with the closest known one; invalid values before errors that follow
/// from them.
/// </summary>
internal static class CommandErrors
{
    /// <summary>The errors; empty for a valid command line.</summary>
    /// <param name="result">The parsed command line.</param>
    /// <param name="arguments">The command line.</param>
    internal static IReadOnlyList<string> Of(ParseResult result, IReadOnlyList<string> arguments)
    {
        var swallowed = Swallowed(result.CommandResult, arguments).ToList();
        if (swallowed.Count > 0)
        {
            return swallowed;
        }

        var slips = Slips(result.CommandResult, result.UnmatchedTokens).ToList();
        if (slips.Count > 0 || result.Errors.Count == 0)
        {
            return slips;
        }

        // Errors about combinations of options are shown only if each option is valid on its own.
        var together = result.Errors.Select(static e => e.Message).ToList();
        result.CommandResult.Command.Validators.Clear();
        result = result.RootCommandResult.Command.Parse(arguments);
        List<string> alone = [.. result.Errors.Select(Value).OfType<string>().Distinct(), .. Missing(result.CommandResult)];
        return alone.Count > 0 ? alone : together;
    }

    /// <summary>Lets what checks the options of a command, or the value of one, wait until each has a value: asking for a value that is missing
    /// throws.</summary>
    internal static void CheckValuesFirst(Command command)
    {
        Wrap(command.Validators, static result => !result.Children.Any(LacksValue));
        foreach (var option in command.Options)
        {
            Wrap(option.Validators, static result => !LacksValue(result));
        }

        foreach (var inner in command.Subcommands)
        {
            CheckValuesFirst(inner);
        }
    }

    private static void Wrap<T>(List<Action<T>> validators, Func<T, bool> isReady)
    {
        for (var i = 0; i < validators.Count; i++)
        {
            var validator = validators[i];
            validators[i] = result =>
            {
                if (isReady(result))
                {
                    validator(result);
                }
            };
        }
    }

    private static bool LacksValue(SymbolResult result) => result is OptionResult { Implicit: false } option && option.Tokens.Count < option.Option.Arity.MinimumNumberOfValues;

    // An option without its value takes the next option's name for it.
    private static IEnumerable<string> Swallowed(CommandResult given, IReadOnlyList<string> arguments)
    {
        var names = Names(given.Command);
        foreach (var option in given.Children.OfType<OptionResult>().Where(static o => !o.Implicit))
        {
            foreach (var value in option.Tokens.Select(static t => t.Value).Where(names.Contains))
            {
                if (arguments.Zip(arguments.Skip(1)).Contains((option.IdentifierToken?.Value ?? option.Option.Name, value)))
                {
                    yield return $"{option.Option.Name} needs a value{Wanted(option)} before {value}. (If {value} is the value, write {option.Option.Name}={value}.)";
                }
            }
        }
    }

    private static string Wanted(OptionResult option) => option.Option.HelpName is { } name ? $", {name}," : "";

    // Null for an option reported as missing.
    private static string? Value(ParseError error) => error.SymbolResult switch
    {
        OptionResult { Tokens.Count: > 0 } or ArgumentResult { Tokens.Count: > 0 } => error.Message,
        OptionResult { Implicit: false } option => $"{option.Option.Name} needs a value{(option.Option.HelpName is { } name ? $", {name}" : "")}.",
        _ => null,
    };

    private static IEnumerable<string> Slips(CommandResult given, IReadOnlyList<string> unmatched)
    {
        var command = given.Command;
        // Options after an unknown command do not belong to the outer command.
        if (command.Subcommands.Count > 0 && unmatched is [var first, ..] && !IsOption(first))
        {
            yield return NoCommand(given, first);
            yield break;
        }

        var (names, wrong) = (Names(command), false);
        foreach (var token in unmatched.Concat(given.Children.OfType<ArgumentResult>().Where(static a => a.Argument != LaunchCommand.Started).SelectMany(static a => a.Tokens).Select(static t => t.Value)).Where(IsOption).Distinct())
        {
            wrong = true;
            yield return $"{token}: {Called(given)} has no such option.{Instead(command, Spelling.DidYouMean(token.Split('=')[0], names))}";
        }

        // The token after an unknown option may be its value.
        foreach (var token in wrong ? [] : unmatched.Take(1))
        {
            yield return command.Subcommands.Count > 0
                ? NoCommand(given, token)
                : $"'{token}' is not expected here{(command.Arguments.Count == 0 ? $"; {Called(given)} takes only options{MeantFor(given, token)}" : "")}.";
        }
    }

    // A value without its option is probably that of the first required one that is missing.
    private static string MeantFor(CommandResult given, string token) =>
        given.Command.Options.FirstOrDefault(o => o.Required && given.GetResult(o) is null or { Implicit: true }) is { } missing ? $", such as {missing.Name} {token}" : "";

    // Other trainers take settings as options.
    private static string Instead(Command command, string nearest) => nearest.Length == 0 && command.Arguments.Any(static a => a.HelpName == "key=value")
        ? " Settings of the YAML file are given without dashes, such as training.max_steps=10."
        : nearest;

    private static string NoCommand(CommandResult given, string token) =>
        $"{token}: {(given.Command is RootCommand ? "there is" : $"{Called(given)} has")} no such command.{Spelling.DidYouMean(token, given.Command.Subcommands.Select(static c => c.Name))}";

    private static IEnumerable<string> Missing(CommandResult given)
    {
        foreach (var option in given.Command.Options.Where(o => o.Required && (given.GetResult(o) is null or { Implicit: true })))
        {
            yield return $"{option.Name} {option.HelpName ?? "VALUE"} is missing: {Small(option.Description)}";
        }

        foreach (var argument in given.Command.Arguments.Where(a => a.Arity.MinimumNumberOfValues > 0 && (given.GetResult(a) is null or { Tokens.Count: 0 })))
        {
            yield return $"{argument.HelpName ?? argument.Name} is missing: {Small(argument.Description)}";
        }
    }

    private static string Small(string? description) => description switch
    {
        { Length: > 1 } text when char.IsUpper(text[1]) => text,
        { Length: > 0 } text => char.ToLowerInvariant(text[0]) + text[1..],
        _ => "",
    };

    private static bool IsOption(string token) => token.Length > 1 && token[0] == '-' && !char.IsAsciiDigit(token[1]) && token[1] != '.';

    private static string Called(CommandResult given) => given.Command is RootCommand ? "owt" : $"{(given.Parent is CommandResult outer ? Called(outer) : "owt")} {given.Command.Name}";

    private static List<string> Names(Command command)
    {
        var names = command.Options.Select(static o => o.Name).ToList();
        for (var at = command.Parents.OfType<Command>().FirstOrDefault(); at is not null; at = at.Parents.OfType<Command>().FirstOrDefault())
        {
            names.AddRange(at.Options.Where(static o => o.Recursive).Select(static o => o.Name));
        }

        return names;
    }
}
