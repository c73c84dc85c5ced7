using System.Globalization;
using System.Text;

namespace OpenWeights.Tokenizers.Templates.Builtins;

/// <summary>Python's <c>strftime</c> in the C locale, for a time without a time zone, with the GNU flags for padding and case.</summary>
internal static class Strftime
{
    private static readonly string[] Days = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

    private static readonly string[] Months =
    [
        "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
    ];

    public static string Format(string format, DateTime time)
    {
        var builder = new StringBuilder();
        for (var at = 0; at < format.Length; at++)
        {
            if (format[at] != '%' || at + 1 == format.Length)
            {
                _ = builder.Append(format[at]);
                continue;
            }

            var directive = at + 1;
            var flag = ' ';
            while (directive + 1 < format.Length && format[directive] is '-' or '_' or '0' or '^' or '#')
            {
                flag = format[directive++];
            }

            var text = Directive(format[directive], flag, time);
            _ = builder.Append(text ?? format[at..(directive + 1)]);
            at = directive;
        }

        return builder.ToString();
    }

    private static string? Directive(char directive, char flag, DateTime time)
    {
        var text = directive switch
        {
            'a' => Days[(int)time.DayOfWeek][..3],
            'A' => Days[(int)time.DayOfWeek],
            'b' or 'h' => Months[time.Month - 1][..3],
            'B' => Months[time.Month - 1],
            'c' => Format("%a %b %e %H:%M:%S %Y", time),
            'C' => Number(time.Year / 100, 2, '0'),
            'd' => Number(time.Day, 2, '0'),
            'D' or 'x' => Format("%m/%d/%y", time),
            'e' => Number(time.Day, 2, '_'),
            'f' => (time.Ticks % TimeSpan.TicksPerSecond / 10).ToString("000000", CultureInfo.InvariantCulture),
            'F' => Format("%Y-%m-%d", time),
            'g' => Number(ISOWeek.GetYear(time) % 100, 2, '0'),
            'G' => ISOWeek.GetYear(time).ToString(CultureInfo.InvariantCulture),
            'H' => Number(time.Hour, 2, '0'),
            'I' => Number(((time.Hour + 11) % 12) + 1, 2, '0'),
            'j' => Number(time.DayOfYear, 3, '0'),
            'k' => Number(time.Hour, 2, '_'),
            'l' => Number(((time.Hour + 11) % 12) + 1, 2, '_'),
            'm' => Number(time.Month, 2, '0'),
            'M' => Number(time.Minute, 2, '0'),
            'n' => "\n",
            'p' => time.Hour < 12 ? "AM" : "PM",
            'P' => time.Hour < 12 ? "am" : "pm",
            'r' => Format("%I:%M:%S %p", time),
            'R' => Format("%H:%M", time),
            'S' => Number(time.Second, 2, '0'),
            't' => "\t",
            'T' or 'X' => Format("%H:%M:%S", time),
            'u' => Number(time.DayOfWeek == DayOfWeek.Sunday ? 7 : (int)time.DayOfWeek, 1, '0'),
            'U' => Number((time.DayOfYear + 6 - (int)time.DayOfWeek) / 7, 2, '0'),
            'V' => Number(ISOWeek.GetWeekOfYear(time), 2, '0'),
            'w' => Number((int)time.DayOfWeek, 1, '0'),
            'W' => Number((time.DayOfYear + 6 - (((int)time.DayOfWeek + 6) % 7)) / 7, 2, '0'),
            'y' => Number(time.Year % 100, 2, '0'),
            'Y' => time.Year.ToString(CultureInfo.InvariantCulture),
            'z' or 'Z' => "",
            '%' => "%",
            _ => null,
        };
        return flag == '^' ? text?.ToUpperInvariant() : text;

        string Number(int value, int width, char padding)
        {
            var digits = value.ToString(CultureInfo.InvariantCulture);
            return (flag is '-' or '_' or '0' ? flag : padding) switch
            {
                '-' => digits,
                '_' => digits.PadLeft(width),
                _ => digits.PadLeft(width, '0'),
            };
        }
    }
}
