using System.Reflection;
using System.Runtime.CompilerServices;
using System.Text;

namespace OpenWeights.Tune.Configuration;

/// <summary>A setting of a section.</summary>
/// <param name="Key">The key in the file.</param>
/// <param name="Property">The property.</param>
/// <param name="Setting">Its description and valid values.</param>
internal sealed record SettingInfo(string Key, PropertyInfo Property, SettingAttribute Setting)
{
    // Those of a single optimizer or start are internal: a program sets them by name.
    private const BindingFlags All = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance;

    /// <summary>The settings of a section, in file order.</summary>
    public static IReadOnlyList<SettingInfo> Of(Type section)
    {
        ArgumentNullException.ThrowIfNull(section);
        return
        [
            .. from property in section.GetProperties(All)
               let setting = property.GetCustomAttribute<SettingAttribute>()
               where setting is not null
               select new SettingInfo(setting.Key ?? SnakeCase(property.Name), property, setting),
        ];
    }

    /// <summary>The settings that a section has, in file order: of an adapter those of its type.</summary>
    /// <param name="section">The section.</param>
    internal static IReadOnlyList<SettingInfo> OfSection(object section) =>
        section is AdapterSection { Own: { } own } ? AdapterTypes.Settings(own.TypeName) : Of(section.GetType());

    /// <summary>Value of the setting in a section.</summary>
    /// <param name="section">The section.</param>
    internal object? Get(object section) => Property.GetValue(Owner(section));

    /// <summary>Sets the setting in a section.</summary>
    /// <param name="section">The section.</param>
    /// <param name="value">The value.</param>
    internal void Set(object section, object? value) => Property.SetValue(Owner(section), value);

    private object Owner(object section) => Property.DeclaringType!.IsInstanceOfType(section) ? section : ((AdapterSection)section).Own!;

    /// <summary>Whether a type is a section with settings of its own.</summary>
    public static bool IsSection(Type type) => type.IsClass && type != typeof(string) && type.GetProperties(All).Any(static p => p.GetCustomAttribute<SettingAttribute>() is not null);

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

/// <summary>Names of settings used in messages: those of the YAML file, or options of a command.</summary>
/// <param name="names">Settings with another name than in the YAML file.</param>
internal sealed class SettingNames(IReadOnlyDictionary<string, string> names)
{
    /// <summary>The names used in the YAML file.</summary>
    public static SettingNames OfConfig { get; } = new(new Dictionary<string, string>());

    /// <summary>The name to show for a setting.</summary>
    /// <param name="setting">Dotted name in the YAML file.</param>
    public string this[string setting] => names.GetValueOrDefault(setting) ?? setting;
}

/// <summary>A setting that is a text or a list of texts, which may have different meanings.</summary>
/// <param name="Values">The text or texts.</param>
/// <param name="IsList">Whether the file gave a list.</param>
[CollectionBuilder(typeof(TextOrList), nameof(Of))]
public sealed record TextOrList(IReadOnlyList<string> Values, bool IsList)
{
    /// <summary>Whether the values are module names rather than a pattern: a list, a single plain name, or none.</summary>
    internal bool IsNames => IsList || Values.Count == 0 || Values[0].All(static c => char.IsAsciiLetterOrDigit(c) || c == '_');

    /// <summary>A text.</summary>
    /// <param name="text">The text.</param>
    public static implicit operator TextOrList(string text) => FromString(text);

    /// <summary>A text.</summary>
    /// <param name="text">The text.</param>
    public static TextOrList FromString(string text) => new([text], IsList: false);

    /// <summary>A list, which C# also makes of <c>["q_proj", "v_proj"]</c>.</summary>
    /// <param name="texts">The texts.</param>
    public static TextOrList Of(params ReadOnlySpan<string> texts) => new([.. texts], IsList: true);

    /// <summary>The texts, one after the other.</summary>
    public IEnumerator<string> GetEnumerator() => Values.GetEnumerator();

    /// <summary>Whether it is one text, given alone or as a list of one.</summary>
    /// <param name="text">The text.</param>
    public bool Is(string text) => Values.Count == 1 && Values[0] == text;

    /// <summary>Whether both have the same texts, given in the same way.</summary>
    /// <param name="other">The other one.</param>
    public bool Equals(TextOrList? other) => other is not null && IsList == other.IsList && Values.SequenceEqual(other.Values, StringComparer.Ordinal);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(IsList, Values.Count, Values.Count > 0 ? Values[0] : "");

    /// <summary>The texts, separated by commas.</summary>
    public override string ToString() => string.Join(", ", Values);
}
