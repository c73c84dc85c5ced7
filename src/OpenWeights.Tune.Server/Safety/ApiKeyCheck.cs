using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Http;

namespace OpenWeights.Tune.Server.Safety;

/// <summary>Whether a request has one of the keys. How long that takes tells nothing of them.</summary>
internal sealed class ApiKeyCheck
{
    private const string Scheme = "Bearer ";

    // Of equal length, whatever the keys are.
    private readonly byte[][] _hashes;

    internal ApiKeyCheck(IReadOnlyList<string> keys) => _hashes = [.. keys.Select(Hash)];

    internal bool Allows(HttpRequest request)
    {
        if (_hashes.Length == 0)
        {
            return true;
        }

        var given = Hash(Given(request));
        var isKnown = false;
        foreach (var hash in _hashes)
        {
            isKnown |= CryptographicOperations.FixedTimeEquals(given, hash);
        }

        return isKnown;
    }

    private static string Given(HttpRequest request) =>
        request.Headers.Authorization.ToString() is var header && header.StartsWith(Scheme, StringComparison.OrdinalIgnoreCase) ? header[Scheme.Length..].Trim()
        : request.Headers["X-Api-Key"].ToString();

    private static byte[] Hash(string key) => SHA256.HashData(Encoding.UTF8.GetBytes(key));
}
