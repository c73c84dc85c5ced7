namespace OpenWeights.Tune.Tests.Models.Families;

/// <content>Configs of dense decoders.</content>
internal static partial class FamilyCases
{
    private static Dictionary<string, string> Dense => new()
    {
    };
}
