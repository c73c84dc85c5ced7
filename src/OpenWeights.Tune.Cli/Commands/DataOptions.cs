using System.CommandLine;
using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>Options of commands that read rows; the counterparts of data.train in a run's YAML file.</summary>
internal sealed class DataOptions
{
    private readonly Option<string?> _format = new("--format") { Description = Meaning("format") };
    private readonly Option<string[]> _fields = Pairs("--field", "Name of a field in the file, such as prompt=question; may be repeated.", "prompt=question");
    private readonly Option<string[]> _roles = Pairs("--role", "Name of a message role in the file, such as assistant=teacher; may be repeated.", "assistant=teacher");
    private readonly Option<string?> _separator = new("--separator") { Description = $"{Meaning("separator")} \\n stands for a line break and \\t for a tab.", HelpName = "TEXT" };
    private readonly Option<string?> _delimiter = new("--delimiter") { Description = $"{Meaning("delimiter")} \\t is a tab.", HelpName = "C" };
    private readonly Option<string?> _textBy = new("--text-by") { Description = Meaning("text_by") };
    private readonly Option<string?> _query = new("--query") { Description = Meaning("query"), HelpName = "SQL" };
    private readonly Option<string?> _split = new("--split") { Description = Meaning("split"), HelpName = "NAME" };
    private readonly Option<string?> _config = new("--config") { Description = Meaning("config"), HelpName = "NAME" };
    private readonly Option<int?> _limit = CommonOptions.Number<int>("--limit", Meaning("limit"), 1);

    internal DataOptions()
    {
        _ = _format.OnlyFrom(Possible("format"));
        _ = _textBy.OnlyFrom(Possible("text_by"));
    }

    /// <summary>Names of the settings in messages.</summary>
    internal static IReadOnlyDictionary<string, string> Words { get; } = new Dictionary<string, string>
    {
        ["data.train.format"] = "--format",
        ["data.train.fields"] = "--field",
        ["data.train.roles"] = "--role",
        ["data.train.separator"] = "--separator",
        ["data.train.delimiter"] = "--delimiter",
        ["data.train.text_by"] = "--text-by",
        ["data.train.query"] = "--query",
        ["data.train.split"] = "--split",
        ["data.train.config"] = "--config",
    };

    /// <summary>All options.</summary>
    internal Option[] All => [_format, _fields, _roles, _separator, _delimiter, _textBy, _query, _split, _config, _limit];

    /// <summary>Options for files whose rows are not in a training format.</summary>
    internal Option[] OfTexts => [_fields, _delimiter, _textBy, _query, _split, _config, _limit];

    /// <summary>The data set.</summary>
    internal DataSource Read(ParseResult arguments, string path) => new()
    {
        Path = path,
        Format = arguments.GetValue(_format) ?? "auto",
        Fields = Map(arguments.GetValue(_fields)),
        Roles = Map(arguments.GetValue(_roles)),
        Separator = Unescaped(arguments.GetValue(_separator)),
        Delimiter = Unescaped(arguments.GetValue(_delimiter)),
        TextBy = arguments.GetValue(_textBy) ?? "document",
        Query = arguments.GetValue(_query),
        Split = arguments.GetValue(_split),
        Config = arguments.GetValue(_config),
        Limit = arguments.GetValue(_limit),
    };

    private static Option<string[]> Pairs(string name, string description, string example)
    {
        var option = new Option<string[]>(name) { Description = description, HelpName = "NAME=THEIRS" };
        option.Validators.Add(result =>
        {
            foreach (var token in result.Tokens.Where(static t => t.Value.IndexOf('=', StringComparison.Ordinal) <= 0))
            {
                result.AddError($"{name}: '{token.Value}' is not of the form NAME=THEIRS, such as {example}.");
            }

            var names = result.Tokens.Select(static t => t.Value.Split('=')[0]).ToList();
            if (names.GroupBy(static n => n).FirstOrDefault(static g => g.Count() > 1) is { Key: var twice })
            {
                result.AddError($"{name}: {twice} is given twice.");
            }
        });
        return option;
    }

    private static Dictionary<string, string> Map(string[]? pairs) => (pairs ?? []).Select(static p => p.Split('=', 2)).ToDictionary(static p => p[0], static p => p[1]);

    // A shell passes \n and \t as two characters; a double-quoted YAML string makes them one.
    private static string? Unescaped(string? text) => text?.Replace("\\n", "\n", StringComparison.Ordinal).Replace("\\t", "\t", StringComparison.Ordinal);

    private static SettingAttribute Setting(string key) => SettingInfo.Of(typeof(DataSource)).First(s => s.Key == key).Setting;

    private static string Meaning(string key) => Setting(key).Description;

    private static string[] Possible(string key) => Setting(key).OneOf;
}
