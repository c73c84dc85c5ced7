using System.CommandLine;
using System.CommandLine.Parsing;
using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Cli;

/// <summary>What is wrong with a command line, in this program's words: misspelt commands and options with the nearest, values before what
/// depends on them.</summary>
internal static class CommandErrors
{
    /// <summary>The errors; none where the command line is right.</summary>
    internal static IReadOnlyList<string> Of(ParseResult result)
    {
        var command = result.CommandResult;
        var slips = Slips(command, result.UnmatchedTokens).ToList();
        if (slips.Count > 0)
        {
            return slips;
        }

        // What a command makes of its options together means little while one of them is wrong.
        var values = result.Errors.Where(static e => e.SymbolResult is OptionResult or ArgumentResult).Select(static e => e.Message).ToList();
        var missing = Missing(command).ToList();
        return values.Count > 0 || missing.Count > 0 ? [.. values.Where(v => missing.Count == 0 || !IsAbout(v, command)), .. missing] : [.. result.Errors.Select(static e => e.Message)];
    }

    // The parser's own words on an argument that is missing.
    private static bool IsAbout(string message, CommandResult command) => message.Contains($"'{command.Command.Name}'", StringComparison.Ordinal);

    private static IEnumerable<string> Slips(CommandResult given, IReadOnlyList<string> unmatched)
    {
        var command = given.Command;
        var names = Names(command);
        foreach (var token in unmatched.Concat(given.Children.OfType<ArgumentResult>().SelectMany(static a => a.Tokens).Select(static t => t.Value)).Where(IsOption).Distinct())
        {
            yield return $"{token}: {Called(given)} has no such option.{Spelling.DidYouMean(token.Split('=')[0], names)}";
        }

        foreach (var token in unmatched.Where(static t => !IsOption(t)).Take(1))
        {
            yield return command.Subcommands.Count > 0
                ? $"{token}: {(command is RootCommand ? "there is" : $"{Called(given)} has")} no such command.{Spelling.DidYouMean(token, command.Subcommands.Select(static c => c.Name))}"
                : $"'{token}' is not expected here{(command.Arguments.Count == 0 ? $"; {Called(given)} takes options alone" : "")}.";
        }
    }

    private static IEnumerable<string> Missing(CommandResult given)
    {
        foreach (var option in given.Command.Options.Where(o => o.Required && given.GetResult(o) is null or { Implicit: true, Tokens.Count: 0 } && o.Required))
        {
            yield return $"{option.Name} {option.HelpName ?? "VALUE"} is missing: {Small(option.Description)}";
        }

        foreach (var argument in given.Command.Arguments.Where(a => a.Arity.MinimumNumberOfValues > 0 && given.GetResult(a) is null or { Tokens.Count: 0 } && a.Arity.MinimumNumberOfValues > 0))
        {
            yield return $"{argument.HelpName ?? argument.Name} is missing: {Small(argument.Description)}";
        }
    }

    private static string Small(string? description) => description is { Length: > 0 } text ? char.ToLowerInvariant(text[0]) + text[1..] : "";

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
