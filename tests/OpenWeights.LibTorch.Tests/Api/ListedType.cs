namespace OpenWeights.LibTorch.Tests.Api;

/// <summary>One type of a listing.</summary>
/// <param name="Kind">class, sealed class, abstract class, static class, struct, interface, enum or delegate.</param>
/// <param name="Name">The full name, nested types after a dot, type parameters in angle brackets.</param>
/// <param name="Bases">The base class, if it has one of its own, and every interface.</param>
/// <param name="Members">The members, a line each.</param>
internal sealed record ListedType(string Kind, string Name, IReadOnlyList<string> Bases, IReadOnlyList<string> Members)
{
    /// <summary>The name without type parameters.</summary>
    internal string PlainName => Name.EndsWith('>') ? Name[..LastOpening(Name)] : Name;

    internal static ListedType Parse(string header, IReadOnlyList<string> members)
    {
        var colon = header.IndexOf(" : ", StringComparison.Ordinal);
        var bases = colon < 0 ? [] : header[(colon + 3)..].Split(", ");
        var words = (colon < 0 ? header : header[..colon]).Split(' ');
        return new ListedType(string.Join(' ', words[1..^1]), words[^1], bases, members);
    }

    /// <summary>The name of a member by which overloads are found: what stands before its parameters.</summary>
    internal static string MemberName(string member)
    {
        if (member[0] is 'C' or 'D')
        {
            return member[..1];
        }

        var end = member.IndexOfAny(['(', '{', '[', '='], member.IndexOf(' ', StringComparison.Ordinal));
        while (end > 0 && member[end] == '[' && (member[end + 1] is ']' or ','))
        {
            end = member.IndexOfAny(['(', '{', '[', '='], end + 1);
        }

        var head = (end < 0 ? member : member[..end]).TrimEnd();
        if (head.EndsWith('>'))
        {
            head = head[..LastOpening(head)];
        }

        return $"{member[0]} {head[(head.LastIndexOf(' ') + 1)..]}";
    }

    // The angle bracket that the closing one at the end belongs to.
    private static int LastOpening(string text)
    {
        var depth = 0;
        for (var i = text.Length - 1; i > 0; i--)
        {
            depth += text[i] == '>' ? 1 : text[i] == '<' ? -1 : 0;
            if (depth == 0)
            {
                return i;
            }
        }

        return text.Length;
    }
}
