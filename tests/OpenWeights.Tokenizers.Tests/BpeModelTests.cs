using System.Text;

using NUnit.Framework;

using OpenWeights.Testing;

namespace OpenWeights.Tokenizers.Tests;

/// <summary>BPE against the definition: merge the pair of the smallest rank, the leftmost first, until none merges.</summary>
public sealed class BpeModelTests
{
    [TestCase("own/bytes-llama-3")]
    [TestCase("own/pieces")]
    [TestCase("llama-3")]
    [TestCase("qwen3")]
    [TestCase("tinyllama-1.1b-chat")]
    public void Words_cut_and_cached_and_merged_by_heap_give_what_the_definition_gives(string name)
    {
        var file = SharedFiles.Require(["fixtures", "tokenizers", .. name.Split('/'), "tokenizer.json"]);
        Check(System.Text.Json.Nodes.JsonNode.Parse(File.ReadAllBytes(file))!["model"]!.AsObject(), 300);
    }

    [TestCase("bytes")]
    [TestCase("pieces")]
    public void Small_models_give_what_the_definition_gives(string name) =>
        Check(SmallTokenizers.Json(name)["model"]!.AsObject(), 2000);

    [Test]
    public void A_word_that_is_a_token_is_that_token_under_ignore_merges_only_where_it_stands_alone()
    {
        // "国国" is a token that no merge makes. In a longer word, cut or not, it must not appear.
        var json = SmallTokenizers.Changed("bytes", new System.Text.Json.Nodes.JsonObject { ["model.ignore_merges"] = true });
        var spelling = string.Concat(Encoding.UTF8.GetBytes("国国").Select(ByteLevelAlphabet.CharacterOf));
        json["model"]!["vocab"]![spelling] = 356;
        var tokenizer = SmallTokenizers.Load(json);
        Assert.That(tokenizer.Encode("国国", addSpecialTokens: false), Is.EqualTo(new[] { 356 }));
        foreach (var text in new[] { "国国国", "国国国国国国国国国国国国", "国国abc国国", "国国" })
        {
            var alone = tokenizer.Encode(text, addSpecialTokens: false);
            Assert.That(alone, Is.EqualTo(text == "国国" ? [356] : alone.Where(id => id != 356)), text);
        }
    }

    private static void Check(System.Text.Json.Nodes.JsonObject model, int count)
    {
        model["ignore_merges"] = false;
        var json = SmallTokenizers.Changed("bytes", new System.Text.Json.Nodes.JsonObject
        {
            ["added_tokens"] = new System.Text.Json.Nodes.JsonArray(),
            ["pre_tokenizer"] = null,
            ["post_processor"] = null,
            ["model"] = model.DeepClone(),
        });
        var isByteLevel = !model["byte_fallback"]!.GetValue<bool>();
        json["normalizer"] = isByteLevel ? System.Text.Json.Nodes.JsonNode.Parse("""{"type": "ByteLevel"}""") : null;
        var byCharacter = SmallTokenizers.Load(json);
        json["normalizer"] = null;
        json["pre_tokenizer"] = isByteLevel
            ? System.Text.Json.Nodes.JsonNode.Parse("""{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}""")
            : null;
        var tokenizer = SmallTokenizers.Load(json);
        var definition = new Definition(model);
        var random = new Random(3);
        for (var i = 0; i < count; i++)
        {
            var text = i % 20 == 0 ? RandomText.Make(random, 120) : RandomText.Make(random, 12);
            var wanted = definition.Encode(text, isByteLevel);
            Assert.That(tokenizer.Encode(text, addSpecialTokens: false), Is.EqualTo(wanted), () => GoldenCase.Show(text));
            Assert.That(byCharacter.Encode(text, addSpecialTokens: false), Is.EqualTo(wanted), () => GoldenCase.Show(text));
        }
    }

    /// <summary>The definition, with strings.</summary>
    private sealed class Definition
    {
        private readonly Dictionary<string, int> _vocabulary;
        private readonly Dictionary<(string, string), int> _ranks = [];

        public Definition(System.Text.Json.Nodes.JsonObject model)
        {
            _vocabulary = model["vocab"]!.AsObject().ToDictionary(p => p.Key, p => p.Value!.GetValue<int>());
            foreach (var merge in model["merges"]!.AsArray())
            {
                var parts = merge is System.Text.Json.Nodes.JsonArray pair
                    ? [.. pair.Select(p => p!.GetValue<string>())]
                    : merge!.GetValue<string>().Split(' ');
                _ranks[(parts[0], parts[1])] = _ranks.Count;
            }
        }

        public int[] Encode(string text, bool isByteLevel)
        {
            var symbols = isByteLevel
                ? [.. Encoding.UTF8.GetBytes(text).Select(b => ByteLevelAlphabet.CharacterOf(b).ToString())]
                : text.EnumerateRunes().SelectMany(Characters).ToList();
            while (true)
            {
                var best = int.MaxValue;
                var at = -1;
                for (var i = 0; i + 1 < symbols.Count; i++)
                {
                    if (_ranks.TryGetValue((symbols[i], symbols[i + 1]), out var rank) && rank < best)
                    {
                        best = rank;
                        at = i;
                    }
                }

                if (at < 0)
                {
                    return [.. symbols.Select(s => _vocabulary[s])];
                }

                symbols[at] += symbols[at + 1];
                symbols.RemoveAt(at + 1);
            }
        }

        private IEnumerable<string> Characters(Rune rune) =>
            _vocabulary.ContainsKey(rune.ToString())
                ? [rune.ToString()]
                : Encoding.UTF8.GetBytes(rune.ToString()).Select(b => $"<0x{b:X2}>");
    }
}
