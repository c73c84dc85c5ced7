using System.Reflection;
using System.Text;

namespace OpenWeights.Tune.Configuration;

/// <summary>A setting of a section: its key in the file, its property and what is known of it.</summary>
/// <param name="Key">The key in the file.</param>
/// <param name="Property">The property.</param>
/// <param name="Setting">What is known of it.</param>
public sealed record SettingInfo(string Key, PropertyInfo Property, SettingAttribute Setting)
{
    /// <summary>The settings of a section, in the order of its file.</summary>
    public static IReadOnlyList<SettingInfo> Of(Type section)
    {
        ArgumentNullException.ThrowIfNull(section);
        return
        [
            .. from property in section.GetProperties()
               let setting = property.GetCustomAttribute<SettingAttribute>()
               where setting is not null
               select new SettingInfo(setting.Key ?? SnakeCase(property.Name), property, setting),
        ];
    }

    /// <summary>Whether a type is a section with settings of its own.</summary>
    public static bool IsSection(Type type) => type.IsClass && type != typeof(string) && type.GetProperties().Any(static p => p.GetCustomAttribute<SettingAttribute>() is not null);

    private static string SnakeCase(string name)
    {
        var text = new StringBuilder();
        foreach (var c in name)
        {
            _ = char.IsUpper(c) && text.Length > 0 ? text.Append('_').Append(char.ToLowerInvariant(c)) : text.Append(char.ToLowerInvariant(c));
        }

        return text.ToString();
    }
}

/// <summary>What settings are called in front of whoever reads a message: their names in the YAML file, or options of a command.</summary>
/// <param name="names">The names of settings that are called otherwise.</param>
public sealed class SettingNames(IReadOnlyDictionary<string, string> names)
{
    /// <summary>The names of the YAML file.</summary>
    public static SettingNames OfConfig { get; } = new(new Dictionary<string, string>());

    /// <summary>What a setting is called.</summary>
    /// <param name="setting">Its name in the YAML file, with dots.</param>
    public string this[string setting] => names.GetValueOrDefault(setting) ?? setting;
}

/// <summary>A setting that is a text or a list of texts, which may mean different things.</summary>
/// <param name="Values">The text, or the texts.</param>
/// <param name="IsList">Whether the file gave a list.</param>
public sealed record TextOrList(IReadOnlyList<string> Values, bool IsList)
{
    /// <summary>Whether modules are named: by a list, or by one bare name, which is a list of one and no pattern.</summary>
    internal bool IsNames => IsList || Values[0].All(static c => char.IsAsciiLetterOrDigit(c) || c == '_');
}
