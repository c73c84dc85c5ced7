using System.Text;

namespace OpenWeights.Tune.Configuration.Foreign;

/// <summary>A config of another program, converted to this program's settings.</summary>
internal sealed class ConvertedConfig
{
    private const int CommentColumn = 48;
    private readonly Dictionary<string, (string Value, string Comment)> _settings = [];
    private readonly List<(string Name, string Why)> _left = [];

    internal ConvertedConfig(string tool, string file) => (Tool, File) = (tool, file);

    /// <summary>The program that the config was written for.</summary>
    public string Tool { get; }

    /// <summary>The file that it was read from.</summary>
    public string File { get; }

    /// <summary>Settings that could not be converted, with the reason or what to do instead.</summary>
    public IReadOnlyList<(string Name, string Why)> LeftOut => _left;

    /// <summary>The settings as YAML, by dotted name.</summary>
    public IReadOnlyDictionary<string, string> Settings => _settings.ToDictionary(static s => s.Key, static s => s.Value.Value);

    internal bool Has(string key) => _settings.ContainsKey(key);

    internal string? Value(string key) => _settings.TryGetValue(key, out var found) ? found.Value : null;

    internal void Set(string key, string value, string comment) => _settings[key] = (value, comment);

    internal void Leave(string name, string why)
    {
        if (!_left.Exists(l => l.Name == name))
        {
            _left.Add((name, why));
        }
    }

    /// <summary>Moves settings whose value is not accepted to the list of those not converted.</summary>
    internal void Withdraw(string key, string why)
    {
        var at = _settings.ContainsKey(key) ? key : _settings.Keys.FirstOrDefault(k => key.StartsWith(k + ".", StringComparison.Ordinal));
        if (at is not null && _settings.Remove(at, out var setting))
        {
            Leave(setting.Comment, $"{setting.Value}: {why}");
        }
    }

    /// <summary>The YAML text; comments give the origin of each setting and list what was not converted.</summary>
    public string Write()
    {
        var text = new StringBuilder($"# Converted by `owt convert` from {System.IO.Path.GetFileName(File)}, a config of {Tool}.\n\n");
        foreach (var setting in SettingInfo.Of(typeof(RunConfig)))
        {
            if (_settings.TryGetValue(setting.Key, out var own))
            {
                Line(text, $"{setting.Key}: {own.Value}", own.Comment);
            }

            var inner = _settings.Keys.Where(k => k.StartsWith(setting.Key + ".", StringComparison.Ordinal)).ToList();
            if (inner.Count > 0)
            {
                _ = text.Append($"\n{setting.Key}:\n");
                Section(text, setting, inner);
            }
        }

        if (_left.Count > 0)
        {
            _ = text.Append("\n# Not converted:\n");
            _left.ForEach(l => text.Append($"#   {l.Name}: {l.Why}\n"));
        }

        return text.ToString();
    }

    private void Section(StringBuilder text, SettingInfo section, List<string> keys)
    {
        foreach (var setting in SettingInfo.Of(section.Property.PropertyType))
        {
            var key = $"{section.Key}.{setting.Key}";
            if (_settings.TryGetValue(key, out var own))
            {
                Line(text, $"  {setting.Key}: {own.Value}", own.Comment);
            }
            else if (keys.Any(k => k.StartsWith(key + ".", StringComparison.Ordinal)))
            {
                _ = text.Append($"  {setting.Key}:\n");
                Sources(text, key);
            }
        }
    }

    // data.train.0.path and so on: a list of data sets.
    private void Sources(StringBuilder text, string list)
    {
        var settings = SettingInfo.Of(typeof(DataSource));
        for (var i = 0; _settings.Keys.Any(k => k.StartsWith($"{list}.{i}.", StringComparison.Ordinal)); i++)
        {
            var first = true;
            foreach (var setting in settings.Where(s => _settings.ContainsKey($"{list}.{i}.{s.Key}")))
            {
                var (value, comment) = _settings[$"{list}.{i}.{setting.Key}"];
                Line(text, $"    {(first ? "-" : " ")} {setting.Key}: {value}", comment);
                first = false;
            }
        }
    }

    private static void Line(StringBuilder text, string line, string comment) =>
        text.Append(comment.Length == 0 ? line : $"{line.PadRight(CommentColumn)} # {comment}").Append('\n');
}
