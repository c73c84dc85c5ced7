namespace OpenWeights.Tune.Tests.Models.Families;

/// <content>Configs of decoders with mixtures of experts.</content>
internal static partial class FamilyCases
{
    private static Dictionary<string, string> Mixtures => new()
    {
    };
}
