using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Adapters;

/// <summary>alora_invocation_tokens: where the adapter applies, in batches, packed rows, checkpointed layers and caches.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class InvocationTokensTests
{
    private static readonly int[] s_text = [4, 22, 19, 50, 5, 9, 69, 16, 10, 15];
    private TemporaryFolder? _work;
    private LoadedModel? _loaded;
    private PeftAdapter? _adapter;

    private CausalLanguageModel Model => _loaded!.Model;

    [SetUp]
    public void Make()
    {
        _work = new TemporaryFolder();
        _loaded = ModelLoader.Load(TinyModel.Write(_work), float32, CPU);
        _adapter = PeftAdapter.Create(Model, new LoraConfig { Rank = 4, Alpha = 16, InvocationTokens = [5, 9] }, seed: 3);
        using var nothing = no_grad();
        using var random = new Generator(5);
        foreach (var layer in _adapter.Layers)
        {
            _ = layer.B.normal_(0, 0.2, random);
        }
    }

    [TearDown]
    public void Clean()
    {
        _adapter?.Dispose();
        _loaded?.Dispose();
        _work?.Dispose();
    }

    [TestCase(new[] { 1, 5, 9, 2 }, 1)]
    [TestCase(new[] { 5, 9, 5, 9 }, 2)]
    [TestCase(new[] { 5, 5, 9 }, 1)]
    [TestCase(new[] { 9, 5 }, null)]
    [TestCase(new[] { 5 }, null)]
    public void The_last_occurrence_counts(int[] text, int? first) => Assert.That(new InvocationTokens([5, 9]).Find(text), Is.EqualTo(first));

    [Test]
    public void States_before_the_tokens_are_the_bases_and_those_from_them_on_are_not()
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var adapted = Model.call(Rows(s_text));
        _adapter!.Enabled = false;
        var plain = Model.call(Rows(s_text));
        Assert.That(adapted.narrow(1, 0, 4).eq(plain.narrow(1, 0, 4)).all().ToBoolean());
        Assert.That(Golden.LargestDifference(adapted.narrow(1, 4, 6), plain.narrow(1, 4, 6)), Is.GreaterThan(1e-2));
    }

    [Test]
    public void A_cache_that_the_base_filled_is_continued()
    {
        using var memory = new PromptCache();
        var options = new GenerationOptions { MaxNewTokens = 8 };
        _adapter!.Enabled = false;
        _ = new TextGenerator(Model, new GenerationOptions { MaxNewTokens = 1 }).Continue(s_text[..4], memory);
        _adapter.Enabled = true;
        var fresh = new TextGenerator(Model, options).Continue([s_text])[0];
        Assert.That(memory.Length, Is.EqualTo(4));
        Assert.That(new TextGenerator(Model, options).Continue(s_text, memory).OutputIds, Is.EqualTo(fresh.OutputIds));
    }

    [TestCase(new[] { 4, 22, 19, 50, 5, 9, 69, 5, 9, 7 })]
    [TestCase(new[] { 4, 22, 19, 50, 5, 9, 69, 16 })]
    [TestCase(new[] { 4, 22, 19, 50, 5, 9 })]
    [TestCase(new[] { 4, 22, 5, 9, 1 })]
    [TestCase(new[] { 4, 22, 19, 50, 5, 30 })]
    public void The_cache_of_another_text_is_used_as_far_as_it_holds(int[] next)
    {
        using var memory = new PromptCache();
        var generator = new TextGenerator(Model, new GenerationOptions { MaxNewTokens = 6 });
        _ = generator.Continue(s_text, memory);
        Assert.That(generator.Continue(next, memory).OutputIds, Is.EqualTo(generator.Continue([next])[0].OutputIds));
    }

    [Test]
    public void Prompts_of_a_batch_give_what_each_gives_alone()
    {
        int[][] prompts = [s_text, [7, 5, 9, 3], [1, 2, 3], [5, 9]];
        var generator = new TextGenerator(Model, new GenerationOptions { MaxNewTokens = 6 });
        var together = generator.Continue(prompts);
        for (var i = 0; i < prompts.Length; i++)
        {
            Assert.That(together[i].OutputIds, Is.EqualTo(generator.Continue([prompts[i]])[0].OutputIds), $"prompt {i}");
        }
    }

    [Test]
    public void Each_document_of_a_packed_row_is_a_text_of_its_own()
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        int[] second = [8, 5, 9, 1, 5, 9, 2];
        long[] documents = [.. s_text.Select(static _ => 1L), .. second.Select(static _ => 2L)];
        long[] positions = [.. Enumerable.Range(0, s_text.Length).Concat(Enumerable.Range(0, second.Length)).Select(static p => (long)p)];
        var packed = Model.call(new ModelInput
        {
            InputIds = tensor([.. s_text.Concat(second).Select(static i => (long)i)], [1, documents.Length]),
            PositionIds = tensor(positions, [1, documents.Length]),
            LongestPosition = 9,
            Documents = tensor(documents, [1, documents.Length]),
        });
        Assert.That(Golden.LargestDifference(packed.narrow(1, 0, s_text.Length), Model.call(Rows(s_text))), Is.LessThan(1e-4));
        Assert.That(Golden.LargestDifference(packed.narrow(1, s_text.Length, second.Length), Model.call(Rows(second))), Is.LessThan(1e-4));
    }

    [Test]
    public void Layers_that_are_computed_again_in_backward_give_the_same_gradients()
    {
        var without = Gradients(ActivationCheckpointing.None);
        Assert.That(Gradients(ActivationCheckpointing.Block), Is.EqualTo(without).Within(1e-4).Percent);
    }

    private List<double> Gradients(ActivationCheckpointing checkpointing)
    {
        using var scope = NewDisposeScope();
        Model.Stack.ActivationCheckpointing = checkpointing;
        var first = Model.Logits(Model.call(Rows(s_text))).square().mean();
        var second = Model.Logits(Model.call(Rows([1, 2, 5, 9, 3]))).square().mean();

        // Both passes come before either backward, as the two answers of a pair do.
        first.add(second).backward();
        var norms = _adapter!.Parameters.Select(static p => p.Parameter.grad!.norm().ToDouble()).ToList();
        foreach (var (_, parameter) in _adapter.Parameters)
        {
            _ = parameter.grad!.zero_();
        }

        return norms;
    }

    private static ModelInput Rows(int[] ids) => ModelInput.Rows(tensor([.. ids.Select(static i => (long)i)], [1, ids.Length]));
}
