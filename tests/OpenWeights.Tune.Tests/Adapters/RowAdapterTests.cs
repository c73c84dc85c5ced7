using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Adapters;

/// <summary>An adapter for each row of a batch: each row is what it is alone, forward and in generation.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class RowAdapterTests
{
    private const string Set = "adapters2026";
    private static readonly int[][] s_prompts = [[17, 51, 41, 107, 200], [36, 192], [185, 12, 4, 171, 116, 246, 134], [3, 150, 80, 22], [9, 9, 1]];

    [TestCase("mix")]
    [TestCase("mix2")]
    public void Rows_have_the_logits_of_PEFTs_mixed_batch(string name)
    {
        using var golden = new Golden("multi_adapter", Set);
        using var loaded = Base(golden);
        using var adapters = Loaded(loaded, golden, "a", "b", "c");
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        adapters.UseByRow();
        var names = golden.Json["adapter_names"]![name]!.AsArray().Select(static n => n!.ToString() is var given && given == "__base__" ? null : given).ToList();
        var input = ModelInput.Rows(Golden.Ids(golden.Json["input_ids"]!)) with { Adapters = names };
        Assert.That(Golden.LargestDifference(loaded.Model.Logits(loaded.Model.call(input), input), golden.Tensor($"{name}.logits")), Is.LessThan(3e-5));
    }

    [Test]
    public void Together_two_adapters_have_the_logits_of_PEFT()
    {
        using var golden = new Golden("multi_adapter", Set);
        using var loaded = Base(golden);
        using var adapters = Loaded(loaded, golden, "a", "b");
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        adapters.Use(("a", 1), ("b", 1));
        Assert.That(Golden.LargestDifference(loaded.Model.Logits(loaded.Model.call(ModelInput.Rows(Golden.Ids(golden.Json["input_ids"]!)))), golden.Tensor("both_ab.logits")), Is.LessThan(3e-5));
    }

    [TestCase("llama")]
    [TestCase("llama_small")]
    [TestCase("llama_tied")]
    [TestCase("llama_bias")]
    [TestCase("qwen2")]
    [TestCase("qwen3_moe")]
    [TestCase("gpt_oss")]
    public void Each_row_is_what_it_is_alone(string model)
    {
        var present = Over(model).ToList();
        using var loaded = ModelLoader.Load(SharedFiles.Require("goldens", Set, model), float32, CPU);
        using var adapters = new AdapterSet(loaded.Model);
        foreach (var (name, folder) in present)
        {
            _ = adapters.Load(name, folder);
        }

        var mixed = adapters.Names.Where(n => adapters[n].Unmixable is null).ToList();
        Assert.That(mixed, Has.Count.GreaterThanOrEqualTo(2));
        using var nothing = no_grad();
        using var scope = NewDisposeScope();

        // Every adapter twice, not side by side, and rows of the base in between.
        List<string?> rows = [.. mixed, null, .. Enumerable.Reverse(mixed)];
        using var random = new Generator(5);
        var ids = randint(0, loaded.Model.VocabularySize, [rows.Count, 9], generator: random);
        if (mixed.Select(n => adapters[n].Invocation).FirstOrDefault(static i => i is not null) is { } invocation)
        {
            // The tokens that switch it on, from the fourth token of every row on.
            _ = ids.narrow(1, 3, invocation.Tokens.Count).copy_(tensor([.. invocation.Tokens.Select(static t => (long)t)], [1, invocation.Tokens.Count]));
        }

        adapters.UseByRow();
        var input = ModelInput.Rows(ids) with { Adapters = rows };
        var together = loaded.Model.Logits(loaded.Model.call(input), input);
        var changed = 0;
        for (var row = 0; row < rows.Count; row++)
        {
            adapters.Use(rows[row] is { } name ? [(name, 1)] : []);
            var own = ModelInput.Rows(ids.narrow(0, row, 1));
            var alone = loaded.Model.Logits(loaded.Model.call(own), own);
            Assert.That(Golden.LargestDifference(together.narrow(0, row, 1), alone), Is.LessThan(3e-5), $"row {row}: {rows[row]}");
            adapters.Use();
            changed += Golden.LargestDifference(loaded.Model.Logits(loaded.Model.call(own)), alone) > 1e-3 ? 1 : 0;
        }

        // Some train the rows of a few tokens alone.
        Assert.That(changed, Is.GreaterThan(rows.Count / 2), "adapters change what their rows say");
    }

    [Test]
    public void Each_prompt_of_a_batch_is_answered_by_its_own_adapter()
    {
        using var golden = new Golden("multi_adapter", Set);
        using var loaded = Base(golden);
        using var adapters = Loaded(loaded, golden, "a", "b");
        _ = adapters.Load("switched", SharedFiles.Require("goldens", Set, "lora_alora"));
        string?[] names = ["a", null, "switched", "b", "a"];
        int[][] prompts = [.. s_prompts.Select((p, i) => i == 2 ? [.. p, .. adapters["switched"].Invocation!.Tokens, 5] : p)];
        var generator = new TextGenerator(loaded.Model, new GenerationOptions { MaxNewTokens = 8 });
        adapters.UseByRow();
        var together = generator.Continue(prompts, adapters: names);
        for (var i = 0; i < names.Length; i++)
        {
            Assert.That(generator.Continue([prompts[i]], adapters: [names[i]])[0].OutputIds, Is.EqualTo(together[i].OutputIds), $"prompt {i} alone by row");
        }

        for (var i = 0; i < names.Length; i++)
        {
            adapters.Use(names[i] is { } name ? [(name, 1)] : []);
            Assert.That(generator.Continue([prompts[i]])[0].OutputIds, Is.EqualTo(together[i].OutputIds), $"prompt {i} with its adapter alone");
        }
    }

    [Test]
    public void A_prompt_cache_is_used_for_its_own_adapter_alone()
    {
        using var golden = new Golden("multi_adapter", Set);
        using var loaded = Base(golden);
        using var adapters = Loaded(loaded, golden, "a", "b");
        using var memory = new PromptCache();
        var generator = new TextGenerator(loaded.Model, new GenerationOptions { MaxNewTokens = 6 });
        adapters.UseByRow();
        foreach (var adapter in new[] { "a", "b", "b", null, "a" })
        {
            Assert.That(generator.Continue(s_prompts[2], memory, adapter: adapter).OutputIds, Is.EqualTo(generator.Continue([s_prompts[2]], adapters: [adapter])[0].OutputIds), adapter);
        }
    }

    [Test]
    public void Adapters_are_loaded_and_unloaded_over_the_same_base_while_others_are_used()
    {
        using var golden = new Golden("multi_adapter", Set);
        using var loaded = Base(golden);
        using var adapters = Loaded(loaded, golden, "a", "b");
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        adapters.UseByRow();
        var ids = Golden.Ids(golden.Json["input_ids"]!);
        Tensor Logits(params string?[] names)
        {
            var input = ModelInput.Rows(ids.narrow(0, 0, names.Length)) with { Adapters = names };
            return loaded.Model.Logits(loaded.Model.call(input), input);
        }

        var before = Logits("a", "b", null);
        adapters.Unload("a");
        Assert.That(() => Logits("a"), Throws.InstanceOf<KeyNotFoundException>().With.Message.Contains("'a'").And.Message.Contains("loaded are b"));
        Assert.That(Logits(null, "b", null)[1].eq(before[1]).all().ToBoolean(), "b is as before");

        // Another adapter under the name of the old one, and the old one again under another.
        _ = adapters.Load("a", Path.Combine(golden.Folder, "c"));
        _ = adapters.Load("again", Path.Combine(golden.Folder, "a"));
        var after = Logits("again", "b", "a");
        Assert.That(after.narrow(0, 0, 2).eq(before.narrow(0, 0, 2)).all().ToBoolean(), "the same adapter loaded anew");
        Assert.That(Golden.LargestDifference(after[2], before[2]), Is.GreaterThan(1e-3));

        adapters.Use(("b", 1));
        adapters.Unload("b");
        Assert.That(adapters.Active, Is.Null);
        Assert.That(Golden.LargestDifference(loaded.Model.Logits(loaded.Model.call(ModelInput.Rows(ids.narrow(0, 2, 1)))), before.narrow(0, 2, 1)), Is.LessThan(1e-5), "the base");
    }

    [TestCase("kind_ln_tuning", "norm")]
    [TestCase("kind_prefix_tuning", "virtual tokens")]
    [TestCase("lora_layer_replication", "layer_replication")]
    public void What_cannot_be_used_for_single_rows_is_refused_where_it_is_named(string name, string reason)
    {
        using var loaded = ModelLoader.Load(SharedFiles.Require("goldens", Set, "llama"), float32, CPU);
        using var adapters = new AdapterSet(loaded.Model);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        adapters.UseByRow();
        _ = adapters.Load("mine", SharedFiles.Require("goldens", Set, name));
        var input = ModelInput.Rows(tensor([1L, 2, 3], [1, 3]));
        Assert.That(() => loaded.Model.call(input with { Adapters = ["mine"] }), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("'mine'").And.Message.Contains(reason));
        Assert.That(loaded.Model.call(input with { Adapters = [null] }).eq(loaded.Model.call(input)).all().ToBoolean());
    }

    [Test]
    public void A_batch_that_names_adapters_wrongly_is_refused()
    {
        using var golden = new Golden("multi_adapter", Set);
        using var loaded = Base(golden);
        using var adapters = Loaded(loaded, golden, "a");
        using var scope = NewDisposeScope();
        var input = ModelInput.Rows(tensor([1L, 2, 3], [1, 3])) with { Adapters = ["a"] };
        Assert.That(() => loaded.Model.call(input), Throws.InstanceOf<InvalidOperationException>().With.Message.Contains("UseByRow"));
        adapters.UseByRow();
        Assert.That(() => loaded.Model.call(input), Throws.InstanceOf<InvalidOperationException>().With.Message.Contains("gradients"));
        Assert.That(() => loaded.Model.call(input with { Adapters = ["a", "a"] }), Throws.InstanceOf<ArgumentException>().With.Message.Contains("2 adapters").And.Message.Contains("1 rows"));
    }

    private static LoadedModel Base(Golden golden) => ModelLoader.Load(Path.Combine(golden.Folder, golden.Json["base"]!.ToString()), float32, CPU);

    // All adapters of the set over a base; of those that a start was made for, the trained one.
    private static IEnumerable<(string Name, string Folder)> Over(string model)
    {
        foreach (var name in Peft2026Tests.Present(static n => n.Split('_')[0] is "lora" or "tokens" or "kind" or "init"))
        {
            using var golden = new Golden(name, Set);
            var folder = new[] { golden.Folder, Path.Combine(golden.Folder, "trained") }.FirstOrDefault(static f => File.Exists(Path.Combine(f, "adapter_config.json")));
            if (folder is not null && golden.Json["base"]?.ToString() == $"../{model}")
            {
                yield return (name, folder);
            }
        }
    }

    private static AdapterSet Loaded(LoadedModel loaded, Golden golden, params string[] names)
    {
        var adapters = new AdapterSet(loaded.Model);
        foreach (var name in names)
        {
            _ = adapters.Load(name, Path.Combine(golden.Folder, name));
        }

        return adapters;
    }
}
