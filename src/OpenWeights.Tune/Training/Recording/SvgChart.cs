using System.Globalization;
using System.Net;
using System.Text;

namespace OpenWeights.Tune.Training.Recording;

/// <summary>A line chart over steps, as SVG without scripts.</summary>
internal static class SvgChart
{
    private const double Width = 560;
    private const double Height = 240;
    private const double Left = 62;
    private const double Right = 12;
    private const double Top = 12;
    private const double Bottom = 28;
    private const int MaxPoints = 800;

    /// <summary>A line of a chart.</summary>
    /// <param name="Name">Name in the legend.</param>
    /// <param name="Points">Steps and values.</param>
    /// <param name="Dots">Whether each point is marked.</param>
    internal sealed record Line(string Name, IReadOnlyList<(double Step, double Value)> Points, bool Dots = false);

    /// <summary>A chart with a title; empty if no line has points.</summary>
    internal static string Of(string title, params IReadOnlyList<Line> lines)
    {
        lines = [.. lines.Where(static l => l.Points.Count > 0)];
        if (lines.Count == 0)
        {
            return "";
        }

        var all = lines.SelectMany(static l => l.Points).ToList();
        var (firstStep, lastStep) = (Math.Min(0, all.Min(static p => p.Step)), Math.Max(1, all.Max(static p => p.Step)));
        var ticks = Ticks(all.Min(static p => p.Value), all.Max(static p => p.Value));
        var (low, high) = (ticks[0], ticks[^1]);
        double X(double step) => Left + ((step - firstStep) / (lastStep - firstStep) * (Width - Left - Right));
        double Y(double value) => Height - Bottom - ((value - low) / (high - low) * (Height - Top - Bottom));

        var svg = new StringBuilder();
        void Draw(FormattableString text) => svg.Append(text.ToString(CultureInfo.InvariantCulture));
        Draw($"<figure><figcaption>{WebUtility.HtmlEncode(title)}</figcaption><svg viewBox=\"0 0 {Width} {Height}\" role=\"img\" aria-label=\"{WebUtility.HtmlEncode(title)}\">");
        foreach (var tick in ticks)
        {
            Draw($"<line class=\"grid\" x1=\"{Left}\" x2=\"{Width - Right}\" y1=\"{Y(tick):F1}\" y2=\"{Y(tick):F1}\"/><text x=\"{Left - 6}\" y=\"{Y(tick) + 4:F1}\" text-anchor=\"end\">{Label(tick)}</text>");
        }

        foreach (var step in Ticks(firstStep, lastStep).Where(s => s <= lastStep && s == Math.Floor(s)))
        {
            Draw($"<text x=\"{X(step):F1}\" y=\"{Height - 8}\" text-anchor=\"middle\">{step:N0}</text>");
        }

        for (var i = 0; i < lines.Count; i++)
        {
            var points = Thinned(lines[i].Points);
            Draw($"<polyline class=\"l{i}\" points=\"{string.Join(' ', points.Select(p => FormattableString.Invariant($"{X(p.Step):F1},{Y(p.Value):F1}")))}\"/>");
            foreach (var (step, value) in lines[i].Dots || points.Count == 1 ? points : [])
            {
                Draw($"<circle class=\"d{i}\" cx=\"{X(step):F1}\" cy=\"{Y(value):F1}\" r=\"3\"><title>step {step}: {Label(value)}</title></circle>");
            }
        }

        Draw($"</svg>");
        if (lines.Count > 1)
        {
            Draw($"<p class=\"legend\">{string.Concat(lines.Select(static (l, i) => FormattableString.Invariant($"<span class=\"k{i}\">{WebUtility.HtmlEncode(l.Name)}</span>")))}</p>");
        }

        Draw($"</figure>");
        return svg.ToString();
    }

    /// <summary>Formats a number compactly.</summary>
    internal static string Label(double value) => Math.Abs(value) switch
    {
        0 => "0",
        >= 1e9 => (value / 1e9).ToString("0.##", CultureInfo.InvariantCulture) + " G",
        >= 1e6 => (value / 1e6).ToString("0.##", CultureInfo.InvariantCulture) + " M",
        >= 1e4 => (value / 1e3).ToString("0.##", CultureInfo.InvariantCulture) + " k",
        >= 100 => value.ToString("0.#", CultureInfo.InvariantCulture),
        >= 1 => value.ToString("0.##", CultureInfo.InvariantCulture),
        >= 1e-3 => value.ToString("0.####", CultureInfo.InvariantCulture),
        _ => value.ToString("0.##e0", CultureInfo.InvariantCulture),
    };

    // Four to nine round tick values that cover the data.
    private static List<double> Ticks(double least, double most)
    {
        if (most <= least)
        {
            (least, most) = least == 0 ? (0, 1) : (least - Math.Abs(least / 2), least + Math.Abs(least / 2));
        }

        if (least > 0 && least < 0.4 * most)
        {
            least = 0;
        }

        var rough = (most - least) / 4;
        var power = Math.Pow(10, Math.Floor(Math.Log10(rough)));
        var width = new[] { 1, 2, 2.5, 5, 10 }.Select(m => m * power).First(w => w >= rough * 0.999);
        var first = Math.Floor(least / width);
        return [.. Enumerable.Range(0, (int)(Math.Ceiling((most / width) - 1e-9) - first) + 1).Select(i => (first + i) * width)];
    }

    // Thins the points of a long run, keeping minimum and maximum of each interval so that spikes stay visible.
    private static IReadOnlyList<(double Step, double Value)> Thinned(IReadOnlyList<(double Step, double Value)> points)
    {
        if (points.Count <= MaxPoints)
        {
            return points;
        }

        return
        [
            .. points.Chunk((points.Count + (MaxPoints / 2) - 1) / (MaxPoints / 2))
                .SelectMany(static c => new[] { c.MinBy(static p => p.Value), c.MaxBy(static p => p.Value) }.Distinct().OrderBy(static p => p.Step)),
        ];
    }
}
