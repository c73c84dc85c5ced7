namespace OpenWeights.Tune.Models;

/// <summary>A size of a weight and the setting of config.json that it comes from.</summary>
/// <param name="Setting">The setting's name, or a product of settings, for messages.</param>
/// <param name="Size">The size.</param>
public readonly record struct Dimension(string Setting, long Size);
