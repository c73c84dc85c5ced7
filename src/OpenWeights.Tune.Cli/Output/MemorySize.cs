using System.Globalization;
using System.Text.RegularExpressions;

namespace OpenWeights.Tune.Cli.Output;

/// <summary>Sizes of memory as people write them: 24GB, 24G, 80GiB.</summary>
internal static partial class MemorySize
{
    /// <summary>The bytes of a size; null if it is none. G and GB are of 1,000 units, GiB of 1,024.</summary>
    /// <param name="text">The text.</param>
    internal static long? Parse(string text)
    {
        if (Written().Match(text) is not { Success: true } match || !double.TryParse(match.Groups[1].ValueSpan, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var number) || number <= 0)
        {
            return null;
        }

        var power = char.ToUpperInvariant(match.Groups[2].Value[0]) switch { 'M' => 2, 'G' => 3, _ => 4 };
        var bytes = number * Math.Pow(match.Groups[3].Value.Length > 0 ? 1024 : 1000, power);
        return bytes < long.MaxValue ? (long)bytes : null;
    }

    [GeneratedRegex(@"\A(\d{1,9}(?:\.\d{1,6})?)\s*([MGT])(i?)B?\z", RegexOptions.IgnoreCase | RegexOptions.CultureInvariant)]
    private static partial Regex Written();
}
