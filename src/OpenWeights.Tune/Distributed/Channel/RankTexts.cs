using System.Globalization;
using System.Text;

namespace OpenWeights.Tune.Distributed.Channel;

/// <summary>The texts of all ranks as one: the number of the exchange and the length of each text in a line, then the texts.</summary>
internal static class RankTexts
{
    internal static string Write(long number, IReadOnlyList<string> texts)
    {
        var all = new StringBuilder();
        _ = all.Append(number).Append(' ').AppendJoin(' ', texts.Select(static t => t.Length)).Append('\n');
        return texts.Aggregate(all, static (a, t) => a.Append(t)).ToString();
    }

    /// <exception cref="FormatException">It is something else.</exception>
    internal static string[] Parse(string text, out long number)
    {
        var end = text.IndexOf('\n', StringComparison.Ordinal);
        var numbers = text[..Math.Max(end, 0)].Split(' ').Select(static n => long.Parse(n, CultureInfo.InvariantCulture)).ToArray();
        number = numbers[0];
        var (texts, at) = (new string[numbers.Length - 1], end + 1);
        for (var i = 0; i < texts.Length; i++)
        {
            texts[i] = text.Substring(at, (int)numbers[i + 1]);
            at += texts[i].Length;
        }

        return texts;
    }
}
