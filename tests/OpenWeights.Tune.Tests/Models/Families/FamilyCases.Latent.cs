namespace OpenWeights.Tune.Tests.Models.Families;

/// <content>Configs of decoders with latent attention.</content>
internal static partial class FamilyCases
{
    private static Dictionary<string, string> Latent => new()
    {
    };
}
