namespace OpenWeights.Tune.Tests.Models.Families;

/// <content>Configs of Gemma 3n and 4.</content>
internal static partial class FamilyCases
{
    private static Dictionary<string, string> LateGemmas => new()
    {
    };
}
