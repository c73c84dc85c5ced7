using System.CommandLine;
using System.CommandLine.Completions;
using System.Globalization;
using OpenWeights.Hub;

namespace OpenWeights.Tune.Cli.Completion;

/// <summary>
/// What may stand at the end of a line that is being typed: commands, options and their values, settings and models. Shells ask for it by
/// owt "[suggest:POSITION]" "LINE"; where nothing is said, they complete files.
/// </summary>
internal static class Completions
{
    private const string Directive = "[suggest:";

    /// <summary>Answers a shell.</summary>
    /// <param name="arguments">The arguments of the program.</param>
    /// <param name="root">Makes the program's commands, with the one named first or with all.</param>
    /// <param name="output">Receives a line for each word, with a tab and what it is.</param>
    /// <returns>Whether a shell asks.</returns>
    internal static bool Answer(IReadOnlyList<string> arguments, Func<string?, RootCommand> root, TextWriter output)
    {
        if (arguments is not [{ } directive, { } line, ..] || !directive.StartsWith(Directive, StringComparison.Ordinal) || !directive.EndsWith(']'))
        {
            return false;
        }

        var at = int.TryParse(directive[Directive.Length..^1], NumberStyles.None, CultureInfo.InvariantCulture, out var given) ? Math.Min(given, line.Length) : line.Length;
        var words = LineWords.Of(line[..at]);
        foreach (var (word, what) in Of(root(words.Count > 2 ? words[1] : null), words))
        {
            output.Write($"{word}\t{what.ReplaceLineEndings(" ")}\n");
        }

        return true;
    }

    /// <summary>The words that the last one may become.</summary>
    /// <param name="root">The program.</param>
    /// <param name="words">The line's words, the program first; the last one is empty after a space.</param>
    internal static IReadOnlyList<(string Word, string What)> Of(RootCommand root, IReadOnlyList<string> words)
    {
        if (words.Count < 2)
        {
            return [];
        }

        var (command, given, options) = (root as Command, 0, (List<Option>)[.. root.Options]);
        Option? open = null;
        var onlyArguments = false;
        foreach (var word in words.Skip(1).Take(words.Count - 2))
        {
            if (!onlyArguments && word == "--")
            {
                (onlyArguments, open) = (true, null);
            }
            else if (!onlyArguments && word.StartsWith('-'))
            {
                open = word.Contains('=', StringComparison.Ordinal) ? null : options.Find(o => Is(o, word) && TakesValue(o));
            }
            else if (open is not null)
            {
                // An option of several values takes those that follow, too.
                open = open.Arity.MaximumNumberOfValues > 1 && open.AllowMultipleArgumentsPerToken ? open : null;
            }
            else if (command.Subcommands.FirstOrDefault(c => c.Name.Equals(word, StringComparison.OrdinalIgnoreCase)) is { } inner)
            {
                (command, given) = (inner, 0);
                options.AddRange(inner.Options);
            }
            else
            {
                given++;
            }
        }

        return [.. Last(command, options, open, given, words[^1], onlyArguments).Where(c => c.Word.StartsWith(words[^1], StringComparison.OrdinalIgnoreCase))];
    }

    private static IEnumerable<(string Word, string What)> Last(Command command, List<Option> options, Option? open, int given, string word, bool onlyArguments)
    {
        if (!onlyArguments && word.StartsWith("--", StringComparison.Ordinal) && word.IndexOf('=', StringComparison.Ordinal) is > 0 and var equals)
        {
            var name = word[..equals];
            return options.Find(o => Is(o, name)) is { } named ? Values(named).Select(v => ($"{name}={v.Word}", v.What)) : [];
        }

        if (!onlyArguments && word.StartsWith('-'))
        {
            return options.Where(static o => !o.Hidden).Select(static o => (o.Name, o.Description ?? ""));
        }

        return open is not null ? Values(open)
            : command.Subcommands.Count > 0 ? given > 0 ? [] : command.Subcommands.Where(static c => !c.Hidden).Select(static c => (c.Name, c.Description ?? ""))
            : Arguments(command, given, word);
    }

    private static IEnumerable<(string Word, string What)> Arguments(Command command, int given, string word)
    {
        if (command.Arguments.Count == 0)
        {
            return [];
        }

        var argument = command.Arguments[Math.Min(given, command.Arguments.Count - 1)];
        return argument.HelpName == SettingWords.HelpName ? SettingWords.Of(word)
            : argument.HelpName == "ORG/NAME" ? Models()
            : argument.GetCompletions(CompletionContext.Empty).Select(static c => (c.Label, c.Detail ?? ""));
    }

    private static IEnumerable<(string Word, string What)> Values(Option option)
    {
        if (option.Name is "--model" or "--tokenizer" || option.Aliases.Contains("--tokenizer"))
        {
            return Models();
        }

        return option.GetCompletions(CompletionContext.Empty).Select(static c => (c.Label, c.Detail ?? ""));
    }

    /// <summary>The models of the Hub that are on this machine.</summary>
    internal static IEnumerable<(string Word, string What)> Models()
    {
        try
        {
            return HubDownload.Names(HubSettings.FromEnvironment()).Order(StringComparer.OrdinalIgnoreCase).Select(static n => (n, "a model of the Hub, in the cache"));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }

    private static bool Is(Option option, string word) => option.Name == word || option.Aliases.Contains(word);

    private static bool TakesValue(Option option) => option.ValueType != typeof(bool) && option.Arity.MaximumNumberOfValues > 0;
}
