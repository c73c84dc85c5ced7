namespace OpenWeights.Tune.Tests.Models.Families;

/// <content>Configs of state space models and their hybrids with attention.</content>
internal static partial class FamilyCases
{
    private static Dictionary<string, string> StateSpace => new()
    {
    };
}
