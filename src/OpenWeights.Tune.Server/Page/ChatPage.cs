using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;

namespace OpenWeights.Tune.Server.Page;

/// <summary>The page at /: one file made of those of this folder, and the policy that it is served with.</summary>
internal static partial class ChatPage
{
    private static readonly Lazy<string> s_html = new(Compose);
    private static readonly Lazy<string> s_policy = new(Policy);

    /// <summary>The page, which needs nothing but the server's API.</summary>
    internal static string Html => s_html.Value;

    /// <summary>The Content-Security-Policy header: its own scripts and style sheet run, and requests go to this server alone.</summary>
    internal static string ContentSecurityPolicy => s_policy.Value;

    // The style sheet and the scripts take the places of the elements that name them.
    private static string Compose()
    {
        var html = Script().Replace(Read("index.html"), static m => $"<script>\n{Read(m.Groups[1].Value)}</script>");
        return StyleSheet().Replace(html, static m => $"<style>\n{Read(m.Groups[1].Value)}</style>");
    }

    private static string Policy() =>
        $"default-src 'none'; script-src {Hashes(ScriptBlock())}; style-src {Hashes(StyleBlock())}; connect-src 'self'; img-src data:; " +
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

    private static string Hashes(Regex block) =>
        string.Join(' ', block.Matches(Html).Select(static m => $"'sha256-{Convert.ToBase64String(SHA256.HashData(Encoding.UTF8.GetBytes(m.Groups[1].Value)))}'"));

    private static string Read(string name)
    {
        using var stream = typeof(ChatPage).Assembly.GetManifestResourceStream($"Page/{name}") ?? throw new InvalidOperationException($"Page/{name} is not embedded in {typeof(ChatPage).Assembly.GetName().Name}.");
        using var reader = new StreamReader(stream, Encoding.UTF8);
        return reader.ReadToEnd().ReplaceLineEndings("\n");
    }

    [GeneratedRegex("<script src=\"([a-z]+\\.js)\"></script>")]
    private static partial Regex Script();

    [GeneratedRegex("<link rel=\"stylesheet\" href=\"([a-z]+\\.css)\">")]
    private static partial Regex StyleSheet();

    [GeneratedRegex("<script>(.*?)</script>", RegexOptions.Singleline)]
    private static partial Regex ScriptBlock();

    [GeneratedRegex("<style>(.*?)</style>", RegexOptions.Singleline)]
    private static partial Regex StyleBlock();
}
