using System.Buffers.Text;
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Http;

namespace OpenWeights.Tune.Server.Safety;

/// <summary>
/// Tickets in links to reports, since a link carries no key: the list of models, which needs one, has a link with a ticket for each report. A ticket is for one
/// report, as long as the server runs.
/// </summary>
internal sealed class ReportTickets
{
    /// <summary>The path of reports.</summary>
    internal const string Path = "/reports";

    private const string Field = "ticket";

    private readonly byte[] _secret = RandomNumberGenerator.GetBytes(32);

    /// <summary>What a link to a report ends with.</summary>
    /// <param name="name">The model's name.</param>
    internal string Query(string name) => $"?{Field}={Of(name)}";

    /// <summary>Whether a request is for a report, with its ticket.</summary>
    internal bool Allows(HttpRequest request) => request.Path.StartsWithSegments(Path, StringComparison.Ordinal, out var rest) && HttpMethods.IsGet(request.Method)
        && rest.Value is { Length: > 1 } name && CryptographicOperations.FixedTimeEquals(Encoding.UTF8.GetBytes(request.Query[Field].ToString()), Encoding.UTF8.GetBytes(Of(name[1..])));

    private string Of(string name) => Base64Url.EncodeToString(HMACSHA256.HashData(_secret, Encoding.UTF8.GetBytes(name)));
}
