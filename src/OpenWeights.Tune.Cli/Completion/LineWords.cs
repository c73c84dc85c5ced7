using System.Text;

namespace OpenWeights.Tune.Cli.Completion;

/// <summary>Takes a line of a shell apart.</summary>
internal static class LineWords
{
    /// <summary>The words of a line; the last is what is being typed, and is empty after a space.</summary>
    /// <param name="line">The line, up to where one types.</param>
    internal static IReadOnlyList<string> Of(string line)
    {
        var (words, word, quote, began) = (new List<string>(), new StringBuilder(), '\0', false);
        for (var i = 0; i < line.Length; i++)
        {
            var c = line[i];
            if (quote != '\0')
            {
                if (c == quote)
                {
                    quote = '\0';
                }
                else
                {
                    _ = word.Append(c);
                }
            }
            else if (c is '"' or '\'')
            {
                (quote, began) = (c, true);
            }
            else if (c == '\\' && i + 1 < line.Length && line[i + 1] is ' ' or '"' or '\'' or '\\')
            {
                _ = word.Append(line[++i]);
                began = true;
            }
            else if (char.IsWhiteSpace(c))
            {
                if (began || word.Length > 0)
                {
                    words.Add(word.ToString());
                }

                (_, began) = (word.Clear(), false);
            }
            else
            {
                _ = word.Append(c);
            }
        }

        words.Add(word.ToString());
        return words;
    }
}
