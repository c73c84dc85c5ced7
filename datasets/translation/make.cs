#:property PublishAot=false

// Writes sentences in English and in Tolka, a language that was invented for this project, to train and to test a translator with.
//
//   dotnet run datasets/translation/make.cs -- OUTPUT_FOLDER [ROWS]
//
// The same rows on every machine, and the first rows of a long file are those of a short one. No sentence of eval.jsonl is in train.jsonl.

using System.Text.Encodings.Web;
using System.Text.Json;

var folder = args.Length is 1 or 2 ? args[0] : throw new ArgumentException("give the folder to write to, and perhaps the number of rows to train on");
var rows = args.Length == 2 ? int.Parse(args[1], System.Globalization.CultureInfo.InvariantCulture) : 500;
Directory.CreateDirectory(folder);

var random = new Numbers(2026);
var seen = new HashSet<string>();
Write(Path.Combine(folder, "eval.jsonl"), 200);
Write(Path.Combine(folder, "train.jsonl"), rows);

void Write(string path, int count)
{
    var options = new JsonSerializerOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
    using var writer = new StreamWriter(path) { NewLine = "\n" };
    for (var written = 0; written < count;)
    {
        var (english, tolka) = Tolka.Sentence(random);
        if (seen.Add(english))
        {
            writer.WriteLine(JsonSerializer.Serialize(new { prompt = $"{english} =", completion = $" {tolka}" }, options));
            written++;
        }
    }
}

/// <summary>
/// Tolka says who, whom, and last what happens. An adjective stands after its noun, "the" is the ending -n of the noun (or of its
/// adjective, where it has one), and "a" is not said: "the old cook sees a fish" is "belo gantun rimi sola".
/// </summary>
internal static class Tolka
{
    private static readonly (string English, string Tolka)[] s_nouns =
    [
        ("cook", "belo"), ("fish", "rimi"), ("dog", "kuta"), ("girl", "nesa"), ("boy", "tori"), ("king", "vamo"), ("bird", "pilu"), ("horse", "drage"),
        ("farmer", "mundo"), ("doctor", "sevi"), ("teacher", "lopa"), ("cat", "miki"), ("sailor", "garu"), ("baker", "finto"), ("child", "wena"), ("bear", "broku"),
        ("mouse", "zipi"), ("queen", "alura"), ("thief", "skato"), ("guest", "hemi"),
    ];

    private static readonly (string English, string Tolka)[] s_verbs =
    [
        ("sees", "sola"), ("finds", "trena"), ("follows", "dimba"), ("helps", "jora"), ("hears", "quela"), ("calls", "fupa"), ("loves", "amiska"), ("fears", "gorda"),
        ("knows", "venta"), ("paints", "lishka"),
    ];

    private static readonly (string English, string Tolka)[] s_adjectives =
    [
        ("old", "gantu"), ("young", "pero"), ("big", "hulka"), ("small", "tiki"), ("sad", "olme"), ("happy", "yasu"), ("tired", "nobri"), ("clever", "stalo"),
    ];

    internal static (string English, string Tolka) Sentence(Numbers random)
    {
        var adjective = random.Below(3); // none, of who, or of whom
        var (who, whoTolka) = Noun(random, adjective == 1);
        var (whom, whomTolka) = Noun(random, adjective == 2);
        var verb = s_verbs[random.Below(s_verbs.Length)];
        return ($"{who} {verb.English} {whom}", $"{whoTolka} {whomTolka} {verb.Tolka}");
    }

    private static (string English, string Tolka) Noun(Numbers random, bool described)
    {
        var noun = s_nouns[random.Below(s_nouns.Length)];
        var the = random.Below(2) == 0;
        var (ending, article) = (the ? "n" : "", the ? "the" : "a");
        if (!described)
        {
            return ($"{article} {noun.English}", noun.Tolka + ending);
        }

        var adjective = s_adjectives[random.Below(s_adjectives.Length)];
        return ($"{(the ? "the" : adjective.English == "old" ? "an" : "a")} {adjective.English} {noun.English}", $"{noun.Tolka} {adjective.Tolka}{ending}");
    }
}

// SplitMix64: .NET's own random numbers may change from one version to the next.
internal sealed class Numbers(ulong seed)
{
    private ulong _state = seed;

    internal int Below(int bound)
    {
        var z = _state += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return (int)(((UInt128)(z ^ (z >> 31)) * (ulong)bound) >> 64);
    }
}
