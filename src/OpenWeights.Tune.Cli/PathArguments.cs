using System.CommandLine;
using System.CommandLine.Parsing;
using System.Text.RegularExpressions;
using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Cli;

/// <summary>
/// Expands ~ in all path arguments, also where a shell does not, as in --model=~/m, and rejects other uses of ~. Paths are recognized by
/// their name in the help: DIR, FILE, PATH, or a name with an extension.
/// </summary>
internal static partial class PathArguments
{
    /// <summary>Prepares a command and its subcommands.</summary>
    internal static void Prepare(Command command)
    {
        foreach (var option in command.Options)
        {
            Prepare(option);
        }

        foreach (var argument in command.Arguments.Where(static a => a is { HelpName: { } name } && IsPath(name)))
        {
            argument.Validators.Add(Refuse);
            if (argument is Argument<string> one)
            {
                one.CustomParser = static result => Expanded(result.Tokens).LastOrDefault()!;
            }
        }

        foreach (var inner in command.Subcommands)
        {
            Prepare(inner);
        }
    }

    private static void Prepare(Option option)
    {
        if (option.HelpName is not { } name || !IsPath(name))
        {
            return;
        }

        option.Validators.Add(static result =>
        {
            foreach (var problem in Problems(result.Tokens))
            {
                result.AddError($"{result.Option.Name}: {problem}");
            }
        });
        switch (option)
        {
            case Option<string> one:
                one.CustomParser = static result => Expanded(result.Tokens).LastOrDefault()!;
                break;
            case Option<string[]> several:
                several.CustomParser = static result => Expanded(result.Tokens);
                break;
            default:
                break;
        }
    }

    private static void Refuse(ArgumentResult result)
    {
        foreach (var problem in Problems(result.Tokens))
        {
            result.AddError(problem);
        }
    }

    private static IEnumerable<string> Problems(IReadOnlyList<Token> tokens)
    {
        foreach (var token in tokens)
        {
            if (token.Value.Length == 0)
            {
                yield return "the path given is empty; is a variable of the shell not set?";
            }
            else if (!UserPath.TryExpand(Split(token.Value).Path, out _, out var problem))
            {
                yield return problem;
            }
        }
    }

    private static string[] Expanded(IReadOnlyList<Token> tokens) => [.. tokens.Select(static token =>
    {
        var (name, path) = Split(token.Value);
        return UserPath.TryExpand(path, out var expanded, out _) ? name + expanded : token.Value;
    })];

    // An adapter may have a name before its folder: NAME=~/folder.
    private static (string Name, string Path) Split(string text) =>
        text.IndexOf("=~", StringComparison.Ordinal) is > 0 and var at ? (text[..(at + 1)], text[(at + 1)..]) : ("", text);

    private static bool IsPath(string name) => PathName().IsMatch(name);

    [GeneratedRegex(@"\A(\[NAME=\])?(DIR|FILE|PATH|DIR_OR_FILE)\z|\A[A-Z]+\.[a-z]+\z")]
    private static partial Regex PathName();
}
