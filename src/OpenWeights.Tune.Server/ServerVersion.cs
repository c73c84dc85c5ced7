using System.Reflection;

namespace OpenWeights.Tune.Server;

/// <summary>The version of the server.</summary>
internal static class ServerVersion
{
    /// <summary>The version.</summary>
    internal static string Text { get; } = typeof(ServerVersion).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0] ?? "0";

    /// <summary>What answers are marked with: the same for the same build.</summary>
    internal static string Fingerprint { get; } = $"b-{Text}";
}
