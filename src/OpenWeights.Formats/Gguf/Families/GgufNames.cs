using System.Globalization;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>The names of a family's tensors in a checkpoint and in GGUF, in both directions.</summary>
internal sealed class GgufNames(GgufFamily family)
{
    internal const string BlockPrefix = "blk.";

    private static readonly string[] s_ends = [".weight", ".bias"];

    // Made at first use, because a family's lists are there only when it has been made.
    private readonly Lazy<Patterns> _patterns = new(() => Patterns.Of(family));

    /// <summary>GGUF's name of a tensor within its layer; the whole name of one outside of the layers.</summary>
    internal static string Part(string gguf) => TryLayer(gguf, BlockPrefix, out _, out var rest) ? rest : gguf;

    /// <summary>The places of a checkpoint's tensor.</summary>
    /// <param name="name">Hugging Face's name.</param>
    internal IEnumerable<GgufPlace> ToGguf(string name)
    {
        var (prefix, patterns) = (family.LayerNamePrefix, _patterns.Value);
        if (TryLayer(name, prefix, out var layer, out var rest))
        {
            return Matches(patterns.Inner, rest, static p => p.HuggingFace, static p => p.Gguf).Select(place => place with { Name = $"{BlockPrefix}{layer}.{place.Name}" });
        }

        return Matches(patterns.Outer, name, static p => p.HuggingFace, static p => p.Gguf);
    }

    /// <summary>The checkpoint's name of a tensor, with a * where the file has several matrices in one.</summary>
    /// <param name="name">GGUF's name.</param>
    internal string? ToHuggingFace(string name)
    {
        var patterns = _patterns.Value;
        return TryLayer(name, BlockPrefix, out var layer, out var rest)
            ? patterns.Inner.Where(p => p.Gguf == rest).Select(p => $"{family.LayerNamePrefix}{layer}.{p.HuggingFace}").FirstOrDefault()
            : patterns.Outer.Where(p => p.Gguf == name).Select(static p => p.HuggingFace).FirstOrDefault();
    }

    private static IEnumerable<GgufPlace> Matches(
        IReadOnlyList<(string HuggingFace, string Gguf)> patterns, string name, Func<(string HuggingFace, string Gguf), string> from, Func<(string HuggingFace, string Gguf), string> to)
    {
        foreach (var pattern in patterns)
        {
            if (GgufPlace.Matches(from(pattern), name, out var number))
            {
                yield return new GgufPlace(to(pattern), number);
            }
        }
    }

    internal static bool TryLayer(string name, string prefix, out int layer, out string rest)
    {
        (layer, rest) = (0, "");
        var dot = name.StartsWith(prefix, StringComparison.Ordinal) ? name.IndexOf('.', prefix.Length) : -1;
        if (dot < 0 || !int.TryParse(name.AsSpan(prefix.Length, dot - prefix.Length), NumberStyles.None, CultureInfo.InvariantCulture, out layer))
        {
            return false;
        }

        rest = name[(dot + 1)..];
        return true;
    }

    private sealed record Patterns(IReadOnlyList<(string HuggingFace, string Gguf)> Inner, IReadOnlyList<(string HuggingFace, string Gguf)> Outer)
    {
        internal static Patterns Of(GgufFamily family) => new([.. WithEnds(family.Modules), .. family.Tensors], [.. WithEnds(family.OuterModules), .. family.OuterTensors]);

        private static IEnumerable<(string HuggingFace, string Gguf)> WithEnds(IEnumerable<(string HuggingFace, string Gguf)> modules) =>
            modules.SelectMany(static m => s_ends.Select(end => (m.HuggingFace + end, m.Gguf + end)));
    }
}

/// <summary>The place of a checkpoint's tensor in a GGUF file.</summary>
/// <param name="Name">The tensor in GGUF.</param>
/// <param name="Number">Which of the matrices in it, as of an expert, if there are several; null for the whole tensor.</param>
internal readonly record struct GgufPlace(string Name, int? Number)
{
    /// <summary>Whether a name is one of a pattern, in which a * stands for a number.</summary>
    /// <param name="pattern">The pattern.</param>
    /// <param name="name">The name.</param>
    /// <param name="number">The number; null in a pattern without one.</param>
    internal static bool Matches(string pattern, string name, out int? number)
    {
        number = null;
        var star = pattern.IndexOf('*', StringComparison.Ordinal);
        if (star < 0)
        {
            return pattern == name;
        }

        var length = name.Length - (pattern.Length - 1);
        if (length < 1 || !name.StartsWith(pattern[..star], StringComparison.Ordinal) || !name.EndsWith(pattern[(star + 1)..], StringComparison.Ordinal)
            || !int.TryParse(name.AsSpan(star, length), NumberStyles.None, CultureInfo.InvariantCulture, out var found))
        {
            return false;
        }

        number = found;
        return true;
    }

    /// <summary>The name of one of several matrices.</summary>
    /// <param name="pattern">A name with a *.</param>
    /// <param name="number">Its number.</param>
    internal static string OfNumber(string pattern, int number) => pattern.Replace("*", number.ToString(CultureInfo.InvariantCulture), StringComparison.Ordinal);
}
