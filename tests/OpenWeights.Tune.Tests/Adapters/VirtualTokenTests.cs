using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Adapters.Kinds;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Families;
using OpenWeights.Tune.Tests.Models.Families;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Adapters;

/// <summary>Virtual tokens that are those of a text: models of random sizes give the logits that they give after the text.</summary>
[Category(TestDevice.Parity)]
public sealed class VirtualTokenTests
{
    private const int Vocabulary = 19;

    [Test]
    public void Embeddings_of_words_as_virtual_tokens_are_those_words([Range(0, 19)] int seed)
    {
        using var scope = NewDisposeScope();
        var random = new Random(seed);
        using var model = Model(random, seed);
        var (before, after) = (Ids(random, 1, random.Next(1, 6)), Ids(random, 1, random.Next(1, 9)));
        var expected = After(model, before, after);
        using var folder = new TemporaryFolder();
        using (var made = PeftAdapter.Create(model, new PromptTuningConfig { NumVirtualTokens = (int)before.size(1) }, seed))
        {
            using var nothing = no_grad();
            _ = made.Parameters.Single().Parameter.copy_(model.Stack.Embedding.Weight.index_select(0, before.view(-1)));
            PeftFolder.Save(made, folder.At("adapter"), "base");
        }

        using var adapter = PeftFolder.Load(model, folder.At("adapter"));
        Compare(model, after, expected);
    }

    [Test]
    public void Keys_and_values_of_words_as_a_prefix_are_those_words([Range(0, 19)] int seed)
    {
        using var scope = NewDisposeScope();
        var random = new Random(seed);
        using var model = Model(random, seed);
        var (before, after) = (Ids(random, 1, random.Next(1, 6)), Ids(random, 1, random.Next(1, 9)));
        var expected = After(model, before, after);
        var prefix = Held(model, before);
        using var folder = new TemporaryFolder();
        using (var made = PeftAdapter.Create(model, new PrefixTuningConfig { NumVirtualTokens = (int)before.size(1) }, seed))
        {
            using var nothing = no_grad();
            _ = made.Parameters.Single().Parameter.copy_(prefix);
            PeftFolder.Save(made, folder.At("adapter"), "base");
        }

        using var adapter = PeftFolder.Load(model, folder.At("adapter"));
        Compare(model, after, expected);
    }

    private static void Compare(CausalLanguageModel model, Tensor text, Tensor expected)
    {
        using var nothing = no_grad();
        var actual = model.Logits(model.call(ModelInput.Rows(text)));
        Assert.That(Golden.LargestDifference(actual.narrow(1, actual.size(1) - text.size(1), text.size(1)), expected), Is.LessThan(2e-5 * TestDevice.Slack));
    }

    private static Tensor After(CausalLanguageModel model, Tensor before, Tensor after)
    {
        using var nothing = no_grad();
        return model.Logits(model.call(ModelInput.Rows(cat([before, after], 1)))).narrow(1, before.size(1), after.size(1));
    }

    // [tokens, layers x (keys, values)], the keys turned to their positions, as a cache holds them.
    private static Tensor Held(CausalLanguageModel model, Tensor ids)
    {
        using var nothing = no_grad();
        using var cache = new DecoderCache();
        var tokens = ids.size(1);
        _ = model.call(new ModelInput { InputIds = ids, PositionIds = arange(tokens, int64, ids.device).unsqueeze(0), LongestPosition = (int)tokens - 1, Cache = cache });
        var (heads, width) = (model.Config.KeyValueHeadCount, model.Config.HeadDimension);
        var all = new List<Tensor>();
        foreach (var (index, layer) in model.Stack.Layers.Index())
        {
            var none = zeros([1, heads, 0, width], float32, ids.device);
            var (keys, values) = ((KeyValueState)cache.Of(index, layer.Parts().Select(static p => p.Part).OfType<TokenMixer>().Single())).Append(none, none);
            all.AddRange([keys.select(0, 0).transpose(0, 1).reshape(tokens, -1), values.select(0, 0).transpose(0, 1).reshape(tokens, -1)]);
        }

        return cat([.. all], 1);
    }

    private static CausalLanguageModel Model(Random random, int seed)
    {
        var groups = random.Next(1, 4);
        var json = new JsonObject
        {
            ["model_type"] = "llama",
            ["hidden_size"] = 4 * random.Next(2, 7),
            ["intermediate_size"] = random.Next(4, 20),
            ["num_attention_heads"] = groups * random.Next(1, 3),
            ["num_key_value_heads"] = groups,
            ["head_dim"] = 2 * random.Next(1, 6),
            ["num_hidden_layers"] = random.Next(1, 4),
            ["vocab_size"] = Vocabulary,
            ["max_position_embeddings"] = 32,
            ["rope_theta"] = 100.0,
        };
        using var source = new VariedWeightSource((ulong)seed + 1);
        return new CausalLanguageModel(FamilyRegistry.Read(json, "config.json"), source);
    }

    private static Tensor Ids(Random random, int rows, int tokens) => tensor([.. Enumerable.Range(0, rows * tokens).Select(_ => (long)random.Next(Vocabulary))], [rows, tokens]).to(TestDevice.Current);
}
