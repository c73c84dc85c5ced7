using System.Text.RegularExpressions;

namespace OpenWeights.Tune.Adapters;

/// <summary>
/// Selects the modules to adapt, by PEFT's rules: names, a regular expression, or all linear layers except the output head.
/// </summary>
internal sealed class TargetModules
{
    /// <summary>Timeout of a pattern match.</summary>
    internal static readonly TimeSpan Patience = TimeSpan.FromSeconds(2);

    private TargetModules(IReadOnlyList<string>? names, string? pattern)
    {
        Names = names;
        Pattern = pattern;
    }

    /// <summary>All linear layers except the output head.</summary>
    public static TargetModules AllLinear { get; } = new(null, null);

    /// <summary>Names that equal a module's full name or are a suffix of it after a dot; null for a pattern or all-linear.</summary>
    public IReadOnlyList<string>? Names { get; }

    /// <summary>A regular expression that must match a module's full name; null for names or all-linear.</summary>
    public string? Pattern { get; }

    /// <summary>Selects modules by name.</summary>
    public static TargetModules Of(IReadOnlyList<string> names) => new(names, null);

    /// <summary>Parses a text as PEFT does: "all-linear", or a regular expression.</summary>
    public static TargetModules Of(string text) => text == "all-linear" ? AllLinear : new TargetModules(null, text);

    /// <summary>Whether a module is selected.</summary>
    /// <param name="module">Name of the module, such as model.layers.0.self_attn.q_proj.</param>
    /// <exception cref="InvalidDataException">The pattern is not a valid regular expression, or takes too long.</exception>
    public bool Matches(string module)
    {
        ArgumentNullException.ThrowIfNull(module);
        if (Names is not null)
        {
            return Names.Any(name => module == name || module.EndsWith("." + name, StringComparison.Ordinal));
        }

        return Pattern is null || Match(module, Pattern, $@"\A(?:{Pattern})\z").Success;
    }

    /// <summary>Matches a module's name with a pattern of an adapter's settings, which may come from anyone.</summary>
    /// <param name="module">The name.</param>
    /// <param name="given">The pattern as the settings have it, for messages.</param>
    /// <param name="pattern">The whole pattern.</param>
    /// <exception cref="InvalidDataException">It is no pattern, or takes too long to match.</exception>
    internal static Match Match(string module, string given, string pattern)
    {
        try
        {
            return Regex.Match(module, pattern, RegexOptions.None, Patience);
        }
        catch (Exception e) when (e is RegexParseException or RegexMatchTimeoutException)
        {
            throw new InvalidDataException($"the pattern '{given}' of the adapter's settings {(e is RegexParseException ? $"cannot be read: {e.Message}" : $"takes more than {Patience.TotalSeconds} seconds to match {module}")}; write a simpler one, or the names of the modules", e);
        }
    }

    /// <summary>The value of the first key that matches a module's name: PEFT matches `(.*\.)?(key)$` from the start of the name.</summary>
    internal static bool FirstMatch<T>(IReadOnlyDictionary<string, T> patterns, string module, out T value)
    {
        foreach (var (key, found) in patterns)
        {
            if (Match(module, key, $@"\A(?:.*\.)?(?:{key})\z").Success)
            {
                value = found;
                return true;
            }
        }

        value = default!;
        return false;
    }
}
