namespace OpenWeights.Tune.Tests.Models.Families;

/// <content>Configs of hybrids of attention with linear attention or short convolutions.</content>
internal static partial class FamilyCases
{
    private static Dictionary<string, string> LinearAttention => new()
    {
    };
}
