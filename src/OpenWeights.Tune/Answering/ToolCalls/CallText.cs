using System.Text.Json;

namespace OpenWeights.Tune.Answering.ToolCalls;

/// <summary>
/// Reads a text that may be cut off. Once something is missing, or does not fit, nothing more is read: <see cref="IsCut"/> and
/// <see cref="IsWrong"/> say so.
/// </summary>
/// <param name="text">The text.</param>
/// <param name="isWhole">Whether nothing follows it.</param>
internal sealed class CallText(string text, bool isWhole)
{
    /// <summary>Where reading has come to.</summary>
    internal int At { get; private set; }

    /// <summary>Whether more of the text is needed.</summary>
    internal bool IsCut { get; private set; }

    /// <summary>Whether the text is something else than was read for.</summary>
    internal bool IsWrong { get; private set; }

    /// <summary>Whether all was as expected so far.</summary>
    internal bool IsGood => !IsCut && !IsWrong;

    /// <summary>Whether the text ends here.</summary>
    internal bool IsAtEnd => IsGood && isWhole && At == text.Length;

    /// <summary>A reader of the same text at the same place.</summary>
    internal CallText Copy() => new(text, isWhole) { At = At, IsCut = IsCut, IsWrong = IsWrong };

    /// <summary>Declares the text to be something else.</summary>
    internal void Refuse() => IsWrong |= IsGood;

    /// <summary>Skips white space.</summary>
    internal void Space()
    {
        while (IsGood && At < text.Length && char.IsWhiteSpace(text[At]))
        {
            At++;
        }
    }

    /// <summary>Skips a mark if it comes next.</summary>
    internal bool Take(string mark)
    {
        if (!IsGood)
        {
            return false;
        }

        var left = text.AsSpan(At);
        if (left.StartsWith(mark, StringComparison.Ordinal))
        {
            At += mark.Length;
            return true;
        }

        IsCut = !isWhole && mark.AsSpan().StartsWith(left, StringComparison.Ordinal);
        return false;
    }

    /// <summary>Whether a mark comes next.</summary>
    internal bool Sees(string mark)
    {
        var at = At;
        var sees = Take(mark);
        At = at;
        return sees;
    }

    /// <summary>Skips a mark, which has to come next.</summary>
    internal void Expect(string mark)
    {
        if (!Take(mark))
        {
            Refuse();
        }
    }

    /// <summary>Skips a mark that has to come next unless the text ends.</summary>
    internal void Close(string mark)
    {
        Space();
        if (!IsAtEnd)
        {
            Expect(mark);
        }
    }

    /// <summary>The text before a mark, which is skipped.</summary>
    internal string Until(string mark)
    {
        if (!IsGood)
        {
            return "";
        }

        var end = text.IndexOf(mark, At, StringComparison.Ordinal);
        if (end < 0)
        {
            Miss();
            return "";
        }

        var before = text[At..end];
        At = end + mark.Length;
        return before;
    }

    /// <summary>A name: letters, digits, and _ - . : /</summary>
    internal string Name()
    {
        var start = At;
        while (IsGood && At < text.Length && (char.IsLetterOrDigit(text[At]) || text[At] is '_' or '-' or '.' or ':' or '/'))
        {
            At++;
        }

        if (At == text.Length)
        {
            Miss();
        }
        else if (At == start)
        {
            Refuse();
        }

        return IsGood ? text[start..At] : "";
    }

    /// <summary>A JSON object or array; null if it is cut off or none.</summary>
    internal JsonElement? Json()
    {
        Space();
        if (!IsGood)
        {
            return null;
        }

        if (At == text.Length)
        {
            Miss();
            return null;
        }

        if (text[At] is not ('{' or '['))
        {
            Refuse();
            return null;
        }

        if (EndOfJson() is not { } end)
        {
            Miss();
            return null;
        }

        try
        {
            using var document = JsonDocument.Parse(text.AsMemory(At, end - At), new JsonDocumentOptions { AllowTrailingCommas = true });
            At = end;
            return document.RootElement.Clone();
        }
        catch (JsonException)
        {
            Refuse();
            return null;
        }
    }

    private void Miss()
    {
        if (IsGood)
        {
            (IsCut, IsWrong) = (!isWhole, isWhole);
        }
    }

    private int? EndOfJson()
    {
        var (depth, inString) = (0, false);
        for (var i = At; i < text.Length; i++)
        {
            switch (text[i])
            {
                case '\\' when inString:
                    i++;
                    break;
                case '"':
                    inString = !inString;
                    break;
                case '{' or '[' when !inString:
                    depth++;
                    break;
                case '}' or ']' when !inString && --depth == 0:
                    return i + 1;
            }
        }

        return null;
    }
}
