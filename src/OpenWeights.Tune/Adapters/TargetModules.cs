using System.Text.RegularExpressions;

namespace OpenWeights.Tune.Adapters;

/// <summary>Which layers an adapter works on, by PEFT's rules: names, a regular expression, or all linear layers but the output head.</summary>
public sealed class TargetModules
{
    /// <summary>How long a pattern may take.</summary>
    internal static readonly TimeSpan Patience = TimeSpan.FromSeconds(2);

    private TargetModules(IReadOnlyList<string>? names, string? pattern)
    {
        Names = names;
        Pattern = pattern;
    }

    /// <summary>Every linear layer but the output head.</summary>
    public static TargetModules AllLinear { get; } = new(null, null);

    /// <summary>Names that a layer's whole name equals, or ends with after a dot; null where there is a pattern or all are meant.</summary>
    public IReadOnlyList<string>? Names { get; }

    /// <summary>A regular expression that a layer's whole name must match; null where there are names or all are meant.</summary>
    public string? Pattern { get; }

    /// <summary>Layers by their names.</summary>
    public static TargetModules Of(IReadOnlyList<string> names) => new(names, null);

    /// <summary>A text as PEFT reads it: "all-linear", or a regular expression.</summary>
    public static TargetModules Of(string text) => text == "all-linear" ? AllLinear : new TargetModules(null, text);

    /// <summary>Whether the rules name this layer.</summary>
    /// <param name="module">The layer's name, such as model.layers.0.self_attn.q_proj.</param>
    /// <exception cref="ArgumentException">The pattern is not a regular expression.</exception>
    public bool Matches(string module)
    {
        ArgumentNullException.ThrowIfNull(module);
        if (Names is not null)
        {
            return Names.Any(name => module == name || module.EndsWith("." + name, StringComparison.Ordinal));
        }

        return Pattern is null ? module != "lm_head" : Regex.IsMatch(module, $@"\A(?:{Pattern})\z", RegexOptions.None, Patience);
    }

    /// <summary>The value of the first key that names a layer: PEFT matches `(.*\.)?(key)$` from the name's start.</summary>
    internal static bool FirstMatch<T>(IReadOnlyDictionary<string, T> patterns, string module, out T value)
    {
        foreach (var (key, found) in patterns)
        {
            if (Regex.IsMatch(module, $@"\A(?:.*\.)?(?:{key})\z", RegexOptions.None, Patience))
            {
                value = found;
                return true;
            }
        }

        value = default!;
        return false;
    }
}
