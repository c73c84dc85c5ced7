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
