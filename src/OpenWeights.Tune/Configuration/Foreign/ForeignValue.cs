using System.Globalization;
using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace OpenWeights.Tune.Configuration.Foreign;

/// <summary>Converts values of other programs' settings.</summary>
internal static class ForeignValue
{
    /// <summary>The result of a conversion.</summary>
    /// <param name="Ours">The setting, if the value selects another one than the name does.</param>
    /// <param name="Text">The value as YAML; null if nothing needs to be written.</param>
    /// <param name="Reason">Why there is no counterpart, or what to write instead, if the value cannot be converted.</param>
    internal readonly record struct Result(string? Ours, string? Text, string? Reason);

    /// <summary>Converts a value of another program.</summary>
    /// <param name="name">The name.</param>
    /// <param name="value">The value.</param>
    /// <param name="rank">The adapter's rank, if known.</param>
    internal static Result Change(ForeignName name, YamlNode value, double? rank)
    {
        if (value is YamlScalarNode scalar && scalar.Text() is null)
        {
            return default;
        }

        var text = value.Text() ?? "";
        var number = double.TryParse(text.Replace("_", "", StringComparison.Ordinal), NumberStyles.Float, CultureInfo.InvariantCulture, out var read) ? read : double.NaN;
        if (name.Values.Count > 0)
        {
            return name.Values.TryGetValue(text, out var ours) || name.Values.TryGetValue(text.ToLowerInvariant(), out ours)
                ? new Result(null, ours, null)
                : new Result(null, null, $"'{text}' has no counterpart here{(name.None is { } why ? $": {why}" : ".")}");
        }

        return name.Change switch
        {
            "list" or "targets" when name.Change == "targets" && text.ToLowerInvariant() is "all" or "all-linear" or "true" => new Result(null, "all-linear", null),
            "list" or "targets" when value is YamlScalarNode => new Result(null, $"[{string.Join(", ", text.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries))}]", null),
            "positive" => number > 0 ? new Result(null, text, null) : default,
            "warmup" when number is > 0 and < 1 => new Result("training.warmup_ratio", text, null),
            "share" when number >= 1 => new Result(null, null, $"here it is a fraction of the rows, and {text} is a number of rows; set data.eval to a file, or give a fraction such as 0.05."),
            "variable" => new Result(null, $"{{ {name.Name}: {Write(value)} }}", null),
            "not" => new Result(null, text.Equals("true", StringComparison.OrdinalIgnoreCase) ? "false" : "true", null),
            "scale" => rank is { } r && double.IsFinite(number)
                ? new Result(null, (number * r).ToString("R", CultureInfo.InvariantCulture), null)
                : new Result(null, null, "mlx-lm multiplies the update by scale directly; set lora_alpha to scale x r."),
            _ => new Result(null, Write(value), null),
        };
    }

    /// <summary>A node as YAML on one line.</summary>
    internal static string Write(YamlNode node) => node switch
    {
        YamlSequenceNode list => $"[{string.Join(", ", list.Children.Select(Write))}]",
        YamlMappingNode map => map.Children.Count == 0 ? "{}" : $"{{ {string.Join(", ", map.Children.Select(static p => $"{Write(p.Key)}: {Write(p.Value)}"))} }}",
        YamlScalarNode { Style: ScalarStyle.Plain, Value: "True" or "False" } flag => flag.Value!.ToLowerInvariant(),
        YamlScalarNode { Style: ScalarStyle.Plain } plain => IsPlain(plain.Value ?? "") ? plain.Value ?? "null" : Quote(plain.Value ?? ""),
        YamlScalarNode quoted => Text(quoted.Value ?? ""),
        _ => "null",
    };

    /// <summary>A text as YAML, quoted where a reader could take it for another type.</summary>
    internal static string Text(string text) =>
        IsPlain(text) && !double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out _) && text.ToLowerInvariant() is not ("true" or "false" or "null" or "yes" or "no" or "on" or "off" or "~")
            ? text
            : Quote(text);

    private static bool IsPlain(string text) => text.Length > 0 && text.All(static c => char.IsAsciiLetterOrDigit(c) || c is '_' or '-' or '.' or '/' or '+' or '~') && text[0] is not ('-' or '~') || double.TryParse(text, CultureInfo.InvariantCulture, out _);

    private static string Quote(string text) => "\"" + text.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal).Replace("\n", "\\n", StringComparison.Ordinal).Replace("\t", "\\t", StringComparison.Ordinal) + "\"";
}
