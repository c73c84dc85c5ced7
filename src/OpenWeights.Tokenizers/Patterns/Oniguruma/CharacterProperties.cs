using System.Collections.Concurrent;
using System.Globalization;

namespace OpenWeights.Tokenizers;

/// <summary>Character sets of Oniguruma's <c>\p{...}</c>, <c>\w</c> and POSIX brackets (UTF-8, Ruby syntax).</summary>
internal static class CharacterProperties
{
    private static readonly ConcurrentDictionary<string, CodePointSet?> s_sets = new();
    private static readonly Lazy<Dictionary<string, CodePointSet>> s_listed = new(ReadListed);

    /// <summary>General categories by the short names' letters, in the order of <see cref="UnicodeCategory"/>.</summary>
    private static readonly string[] s_categories =
    [
        "lu", "ll", "lt", "lm", "lo", "mn", "mc", "me", "nd", "nl", "no", "zs", "zl", "zp", "cc", "cf", "cs", "co",
        "pc", "pd", "ps", "pe", "pi", "pf", "po", "sm", "sc", "sk", "so", "cn",
    ];

    /// <summary>Long names of categories, and names that mean the same as others.</summary>
    private static readonly Dictionary<string, string> s_longNames = """
        letter=l casedletter=lc uppercaseletter=lu lowercaseletter=ll titlecaseletter=lt modifierletter=lm otherletter=lo
        mark=m combiningmark=m nonspacingmark=mn spacingmark=mc enclosingmark=me number=n decimalnumber=nd letternumber=nl
        othernumber=no separator=z spaceseparator=zs lineseparator=zl paragraphseparator=zp other=c control=cc format=cf
        surrogate=cs privateuse=co unassigned=cn punctuation=p connectorpunctuation=pc dashpunctuation=pd
        openpunctuation=ps closepunctuation=pe initialpunctuation=pi finalpunctuation=pf otherpunctuation=po symbol=s
        mathsymbol=sm currencysymbol=sc modifiersymbol=sk othersymbol=so alpha=alphabetic upper=uppercase lower=lowercase
        space=whitespace digit=nd cntrl=cc punct=p
        """.Split([' ', '\n'], StringSplitOptions.RemoveEmptyEntries).Select(p => p.Trim().Split('=')).ToDictionary(p => p[0], p => p[1]);

    /// <summary>The set of <c>\p{name}</c>, or null for an unknown name.</summary>
    public static CodePointSet? Find(string name)
    {
        var plain = string.Concat(name.Where(c => c is not (' ' or '-' or '_'))).ToLowerInvariant();
        return s_sets.GetOrAdd(s_longNames.GetValueOrDefault(plain, plain), Make);
    }

    /// <summary>The set of a POSIX bracket such as <c>[:alpha:]</c>, or null.</summary>
    public static CodePointSet? FindPosix(string name) => name switch
    {
        "punct" => Find("p")!.Union(Find("s")!),
        "word" => Find("alphabetic")!.Union(Find("m")!).Union(Find("nd")!).Union(Find("pc")!),
        "alnum" or "alpha" or "ascii" or "blank" or "cntrl" or "digit" or "graph" or "lower" or "print" or "space" or "upper" or "xdigit" => Find(name),
        _ => null,
    };

    private static CodePointSet? Make(string name) => name switch
    {
        "any" => CodePointSet.All,
        "ascii" => CodePointSet.Range(0, 0x7F),
        "assigned" => Categories(c => c != "cn"),
        "lc" => Categories(c => c is "lu" or "ll" or "lt"),
        "alnum" => Find("alphabetic")!.Union(Find("nd")!),
        "blank" => Find("zs")!.Union(CodePointSet.Of('\t')),
        "graph" => Categories(c => c[0] != 'z' && c is not ("cn" or "cc" or "cs")),
        "print" => Categories(c => c is not ("zl" or "zp" or "cn" or "cc" or "cs")),
        "xdigit" => CodePointSet.Of([('0', '9'), ('A', 'F'), ('a', 'f')]),

        // Oniguruma takes a byte's class from its Latin-1 table, where these are word characters.
        "word" => FindPosix("word")!.Union(CodePointSet.Of([(0xB2, 0xB3), (0xB9, 0xB9), (0xBC, 0xBE)])),
        _ when name.Length is 1 or 2 && s_categories.Any(c => c.StartsWith(name, StringComparison.Ordinal)) =>
            Categories(c => c.StartsWith(name, StringComparison.Ordinal)),
        _ => s_listed.Value.GetValueOrDefault(name),
    };

    private static CodePointSet Categories(Func<string, bool> condition)
    {
        var isIn = s_categories.Select(condition).ToArray();
        return CodePointSet.Where(c => isIn[(int)CharUnicodeInfo.GetUnicodeCategory(c)]);
    }

    private static Dictionary<string, CodePointSet> ReadListed()
    {
        var ranges = new Dictionary<string, List<(int, int)>>();
        using var stream = typeof(CharacterProperties).Assembly.GetManifestResourceStream("properties.txt")!;
        using var reader = new StreamReader(stream);
        while (reader.ReadLine() is { } line)
        {
            if (line.StartsWith('#'))
            {
                continue;
            }

            var words = line.Split(' ');
            var name = words[0].Replace("_", "", StringComparison.Ordinal).ToLowerInvariant();
            if (!ranges.TryGetValue(name, out var list))
            {
                ranges.Add(name, list = []);
            }

            list.AddRange(words.Skip(1).Select(UnicodeData.ParseRange));
        }

        return ranges.ToDictionary(r => r.Key, r => CodePointSet.Of(r.Value));
    }
}
