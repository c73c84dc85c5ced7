namespace OpenWeights.Tune.Configuration;

/// <summary>What settings are called in front of whoever reads a message: their names in the YAML file, or options of a command.</summary>
/// <param name="names">The names of settings that are called otherwise.</param>
public sealed class SettingWords(IReadOnlyDictionary<string, string> names)
{
    /// <summary>The names of the YAML file.</summary>
    public static SettingWords OfConfig { get; } = new(new Dictionary<string, string>());

    /// <summary>What a setting is called.</summary>
    /// <param name="setting">Its name in the YAML file, with dots.</param>
    public string this[string setting] => names.GetValueOrDefault(setting) ?? setting;
}
