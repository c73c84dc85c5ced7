using System.Globalization;

namespace OpenWeights.Tune.Distributed.Channel;

/// <summary>Who a rank is, as it tells rank 0.</summary>
/// <param name="Rank">The rank.</param>
/// <param name="Size">Number of ranks that it was started with.</param>
/// <param name="Host">Its machine.</param>
/// <param name="Version">Version of its program.</param>
/// <param name="Token">Secret of its start.</param>
internal sealed record RankHello(int Rank, int Size, string Host, string Version, string Token)
{
    internal string Write() => string.Create(CultureInfo.InvariantCulture, $"{Rank}\n{Size}\n{Host}\n{Version}\n{Token}");

    /// <summary>Reads <see cref="Write"/>; null if it is something else.</summary>
    internal static RankHello? Parse(string text) =>
        text.Split('\n') is [var rank, var size, var host, var version, var token] && int.TryParse(rank, CultureInfo.InvariantCulture, out var r) && int.TryParse(size, CultureInfo.InvariantCulture, out var s)
            ? new RankHello(r, s, host, version, token)
            : null;
}
