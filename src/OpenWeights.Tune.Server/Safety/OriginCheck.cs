using System.Net;
using Microsoft.AspNetCore.Http;

namespace OpenWeights.Tune.Server.Safety;

/// <summary>
/// Whether a request comes from where it may. A web page of anyone can send requests to this machine, from the browser of whoever opens it: such requests have
/// the page's origin, or (where a name was made to mean this machine) a host that is not ours.
/// </summary>
/// <param name="options">The origins that are allowed.</param>
internal sealed class OriginCheck(ServerOptions options)
{
    /// <summary>Why a request is refused; null if it is not.</summary>
    internal string? Problem(HttpRequest request)
    {
        if (options.IsLoopback && options.ApiKeys.Count == 0 && !IsOurs(request.Host.Host))
        {
            return $"The host '{request.Host.Host}' is not this server's, which serves this machine alone.";
        }

        var origin = request.Headers.Origin.ToString();
        return origin.Length == 0 || origin == $"{request.Scheme}://{request.Host}" || IsAllowed(origin)
            ? null
            : $"Web pages of {origin} may not use this server; --cors allows them.";
    }

    internal bool IsAllowed(string origin) => options.CorsOrigins.Contains("*") || options.CorsOrigins.Contains(origin, StringComparer.OrdinalIgnoreCase);

    private static bool IsOurs(string host) => host.Equals("localhost", StringComparison.OrdinalIgnoreCase) || host.EndsWith(".localhost", StringComparison.OrdinalIgnoreCase)
        || (IPAddress.TryParse(host.Trim('[', ']'), out var address) && IPAddress.IsLoopback(address));
}
