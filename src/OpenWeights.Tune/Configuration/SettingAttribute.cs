namespace OpenWeights.Tune.Configuration;

/// <summary>Says of a property of the config what it means, and which values are possible.</summary>
/// <param name="description">What the setting does, for help, messages and the JSON schema.</param>
[AttributeUsage(AttributeTargets.Property)]
public sealed class SettingAttribute(string description) : Attribute
{
    /// <summary>What the setting does.</summary>
    public string Description { get; } = description;

    /// <summary>The key in the file, where it is not the property's name in snake_case.</summary>
    public string? Key { get; init; }

    /// <summary>The least value of a number.</summary>
    public double Min { get; init; } = double.NegativeInfinity;

    /// <summary>The largest value of a number.</summary>
    public double Max { get; init; } = double.PositiveInfinity;

    /// <summary>The texts that are possible; empty for any.</summary>
    public string[] OneOf { get; init; } = [];

    /// <summary>Whether it is a path, in which ~ and ${NAME} are what a shell makes of them.</summary>
    public bool IsPath { get; init; }

    /// <summary>Whether the file must give it.</summary>
    public bool Required { get; init; }

    /// <summary>One of the possible texts, whatever its capitals; null where none is meant.</summary>
    internal string? Choice(string text) => OneOf.Length == 0 || OneOf.Contains(text) ? text : Array.Find(OneOf, o => o.Equals(text, StringComparison.OrdinalIgnoreCase));
}
