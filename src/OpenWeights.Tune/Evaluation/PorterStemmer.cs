namespace OpenWeights.Tune.Evaluation;

/// <summary>
/// Porter's algorithm for suffix stripping (Porter, 1980) with the extensions that NLTK makes by default, which rouge-score uses.
/// </summary>
internal static class PorterStemmer
{
    private static readonly Dictionary<string, string> s_irregular = new()
    {
        ["sky"] = "sky",
        ["skies"] = "sky",
        ["dying"] = "die",
        ["lying"] = "lie",
        ["tying"] = "tie",
        ["news"] = "news",
        ["innings"] = "inning",
        ["inning"] = "inning",
        ["outings"] = "outing",
        ["outing"] = "outing",
        ["cannings"] = "canning",
        ["canning"] = "canning",
        ["howe"] = "howe",
        ["proceed"] = "proceed",
        ["exceed"] = "exceed",
        ["succeed"] = "succeed",
    };

    private static readonly (string Suffix, string Instead)[] s_derived =
    [
        ("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"), ("bli", "ble"), ("alli", "al"), ("entli", "ent"), ("eli", "e"),
        ("ousli", "ous"), ("ization", "ize"), ("ation", "ate"), ("ator", "ate"), ("alism", "al"), ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous"),
        ("aliti", "al"), ("iviti", "ive"), ("biliti", "ble"), ("fulli", "ful"), ("logi", "log"),
    ];

    private static readonly (string Suffix, string Instead)[] s_further =
        [("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", "")];

    private static readonly string[] s_last =
        ["al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti", "ous", "ive", "ize"];

    /// <summary>The stem of a word in lower case.</summary>
    internal static string Stem(string word) =>
        s_irregular.TryGetValue(word, out var stem) ? stem : word.Length <= 2 ? word : WithoutLastE(LastSuffix(Replaced(Derived(Y(Past(Plural(word)))), s_further)));

    private static string Plural(string word) =>
        Ends(word, "ies") ? word[..^(word.Length == 4 ? 1 : 2)]
        : Ends(word, "sses") ? word[..^2]
        : Ends(word, "ss") ? word
        : Ends(word, "s") ? word[..^1]
        : word;

    private static string Past(string word)
    {
        if (Ends(word, "ied"))
        {
            return word[..^(word.Length == 4 ? 1 : 2)];
        }

        if (Ends(word, "eed"))
        {
            return Measure(word[..^3]) > 0 ? word[..^1] : word;
        }

        var stem = Ends(word, "ed") && HasVowel(word[..^2]) ? word[..^2] : Ends(word, "ing") && HasVowel(word[..^3]) ? word[..^3] : null;
        return stem is null ? word
            : Ends(stem, "at") || Ends(stem, "bl") || Ends(stem, "iz") ? stem + "e"
            : EndsDouble(stem) ? (stem[^1] is 'l' or 's' or 'z' ? stem : stem[..^1])
            : Measure(stem) == 1 && EndsShort(stem) ? stem + "e"
            : stem;
    }

    private static string Y(string word) => Ends(word, "y") && word.Length > 2 && IsConsonant(word, word.Length - 2) ? word[..^1] + "i" : word;

    private static string Derived(string word)
    {
        if (Ends(word, "alli") && Measure(word[..^4]) > 0)
        {
            return Derived(word[..^2]);
        }

        // The l of logi counts to the stem.
        return Array.Find(s_derived, r => Ends(word, r.Suffix)).Suffix == "logi" ? (Measure(word[..^3]) > 0 ? word[..^1] : word) : Replaced(word, s_derived);
    }

    private static string Replaced(string word, (string Suffix, string Instead)[] rules)
    {
        var (suffix, instead) = Array.Find(rules, r => Ends(word, r.Suffix));
        return suffix is not null && Measure(word[..^suffix.Length]) > 0 ? word[..^suffix.Length] + instead : word;
    }

    private static string LastSuffix(string word)
    {
        if (Array.Find(s_last, s => Ends(word, s)) is not { } suffix)
        {
            return word;
        }

        var stem = word[..^suffix.Length];
        return Measure(stem) > 1 && (suffix != "ion" || stem[^1] is 's' or 't') ? stem : word;
    }

    private static string WithoutLastE(string word)
    {
        if (Ends(word, "e") && word[..^1] is var stem && (Measure(stem) > 1 || (Measure(stem) == 1 && !EndsShort(stem))))
        {
            word = stem;
        }

        return Ends(word, "ll") && Measure(word[..^1]) > 1 ? word[..^1] : word;
    }

    private static bool Ends(string word, string suffix) => word.EndsWith(suffix, StringComparison.Ordinal);

    private static bool IsConsonant(string word, int at) => word[at] switch
    {
        'a' or 'e' or 'i' or 'o' or 'u' => false,
        'y' => at == 0 || !IsConsonant(word, at - 1),
        _ => true,
    };

    private static bool HasVowel(string word) => Enumerable.Range(0, word.Length).Any(i => !IsConsonant(word, i));

    // Number of times that a consonant follows a vowel.
    private static int Measure(string word) => Enumerable.Range(1, Math.Max(0, word.Length - 1)).Count(i => IsConsonant(word, i) && !IsConsonant(word, i - 1));

    private static bool EndsDouble(string word) => word.Length > 1 && word[^1] == word[^2] && IsConsonant(word, word.Length - 1);

    private static bool EndsShort(string word) => word.Length == 2
        ? !IsConsonant(word, 0) && IsConsonant(word, 1)
        : word.Length > 2 && IsConsonant(word, word.Length - 3) && !IsConsonant(word, word.Length - 2) && IsConsonant(word, word.Length - 1) && word[^1] is not ('w' or 'x' or 'y');
}
