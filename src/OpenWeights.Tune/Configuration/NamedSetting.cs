namespace OpenWeights.Tune.Configuration;

/// <summary>Settings that a program gives by their names in YAML.</summary>
internal static class NamedSetting
{
    /// <summary>Sets a setting, read and checked as that of a file is.</summary>
    /// <param name="section">The section, which is changed.</param>
    /// <param name="prefix">Name of the section with a dot, for messages.</param>
    /// <param name="name">Name of the setting within the section, with dots for those of a section within it.</param>
    /// <param name="value">Its value.</param>
    /// <exception cref="ConfigException">There is no such setting, or its value is invalid.</exception>
    internal static void Set<T>(T section, string prefix, string name, object? value)
        where T : class, new()
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        var first = name.Split('.')[0];
        var around = new Dictionary<string, object?>();
        if (section is AdapterSection adapter)
        {
            around["type"] = adapter.Type;
        }

        // The section within that the name leads into keeps its other settings.
        if (name != first && SettingInfo.OfSection(section).FirstOrDefault(s => s.Key == first)?.Get(section) is { } whole)
        {
            around[first] = whole;
        }

        var source = YamlSource.Read("", ConfigWriter.Value(around));
        var problem = source.Override($"{name}={ConfigWriter.Value(value)}");
        var binder = new ConfigBinder(source);
        var bound = binder.Bind<T>(prefix);
        List<ConfigProblem> problems = [.. problem is null ? binder.Problems : [problem]];
        if (problems.Count > 0)
        {
            throw new ConfigException([.. problems.Select(static p => p with { Place = "" })]);
        }

        var setting = SettingInfo.OfSection(bound).First(s => s.Key == first);
        setting.Set(section, setting.Get(bound));
    }
}
