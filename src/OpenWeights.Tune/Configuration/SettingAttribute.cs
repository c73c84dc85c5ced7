namespace OpenWeights.Tune.Configuration;

/// <summary>Describes a setting and its valid values.</summary>
/// <param name="description">Description of the setting, for help, messages and the JSON schema.</param>
[AttributeUsage(AttributeTargets.Property)]
internal class SettingAttribute(string description) : Attribute
{
    /// <summary>Description of the setting.</summary>
    public string Description { get; } = description;

    /// <summary>The key in the file, if it is not the property's name in snake_case.</summary>
    public string? Key { get; init; }

    /// <summary>Minimum of a number.</summary>
    public double Min { get; init; } = double.NegativeInfinity;

    /// <summary>Maximum of a number.</summary>
    public double Max { get; init; } = double.PositiveInfinity;

    /// <summary>The allowed texts; empty for any.</summary>
    public string[] OneOf { get; init; } = [];

    /// <summary>Whether a class of the user's can be named in place of the allowed texts (<see cref="Extensions.OwnClass"/>).</summary>
    public bool OrOwnClass { get; init; }

    /// <summary>Whether the value is a path, in which ~ and ${NAME} are expanded as in a shell.</summary>
    public bool IsPath { get; init; }

    /// <summary>Whether a setting of the adapter section applies to every adapter type; the others are LoRA's.</summary>
    public bool AllTypes { get; init; }

    /// <summary>Whether the setting is required.</summary>
    public bool Required { get; init; }

    /// <summary>The allowed text that equals the given one, ignoring case; null if there is none.</summary>
    internal string? Choice(string text) => OneOf.Length == 0 || OneOf.Contains(text) || (OrOwnClass && Extensions.OwnClass.Is(text)) ? text : Array.Find(OneOf, o => o.Equals(text, StringComparison.OrdinalIgnoreCase));
}
