using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Adapters;

/// <summary>alora_invocation_tokens with an adapter on the output head: logits, training and generation.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class InvocationHeadTests
{
    private static readonly int[] s_text = [4, 22, 19, 50, 5, 9, 69, 16, 10, 15];
    private TemporaryFolder? _work;
    private LoadedModel? _loaded;
    private PeftAdapter? _adapter;

    private CausalLanguageModel Model => _loaded!.Model;

    [TearDown]
    public void Clean()
    {
        _adapter?.Dispose();
        _loaded?.Dispose();
        _work?.Dispose();
    }

    [Test]
    public void The_head_is_the_bases_before_the_tokens_and_adapted_from_them_on([Values] bool tied)
    {
        Make(tied, "lm_head");
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var input = Rows(s_text);
        var hidden = Model.call(input);
        var adapted = Model.Logits(hidden, input);
        var layer = _adapter!.Layers.Single();
        _adapter.Enabled = false;
        var plain = Model.Logits(hidden);
        Assert.That(adapted.narrow(1, 0, 4).eq(plain.narrow(1, 0, 4)).all().ToBoolean());
        var expected = plain.add(nn.functional.linear(hidden, layer.Delta()));
        Assert.That(Golden.LargestDifference(adapted.narrow(1, 4, 6), expected.narrow(1, 4, 6)), Is.LessThan(1e-4));
        Assert.That(Golden.LargestDifference(adapted.narrow(1, 4, 6), plain.narrow(1, 4, 6)), Is.GreaterThan(1e-2));
    }

    [Test]
    public void Losses_and_gradients_are_those_of_the_logits_also_of_packed_rows_and_a_few_tokens_at_a_time([Values] bool packed)
    {
        Make(tied: false, "q_proj", "lm_head");
        int[][] texts = [s_text, [8, 5, 9, 1, 5, 9, 2], [1, 2, 3, 4]];
        var rows = texts.Select(static t => new TokenRow(t, [.. t.Select(static (id, i) => i < 2 ? TokenRow.Ignored : id)], "a row")).ToList();
        var (sum, count) = (0.0, 0);
        foreach (var text in texts)
        {
            using var scope = NewDisposeScope();
            var input = Rows(text);
            var logits = Model.Logits(Model.call(input), input).squeeze(0).narrow(0, 1, text.Length - 2);
            var loss = nn.functional.cross_entropy(logits, tensor([.. text.Skip(2).Select(static i => (long)i)], [text.Length - 2]), reduction: nn.Reduction.Sum);
            loss.backward();
            (sum, count) = (sum + loss.ToDouble(), count + text.Length - 2);
        }

        var expected = Taken();
        using (var scope = NewDisposeScope())
        {
            var found = new SupervisedObjective().LossSum(Model, packed ? [Packed(rows)] : rows)!;
            found.backward();
            Assert.That(found.ToDouble(), Is.EqualTo(sum).Within(1e-4).Percent);
        }

        Assert.That(Taken(), Is.EqualTo(expected).Within(1e-2).Percent);
        using var nothing = no_grad();
        using var last = NewDisposeScope();
        var batch = TokenBatch.Of(packed ? [Packed(rows)] : rows, padId: 0, CPU);
        Assert.That(TokenScores.Of(Model, batch).LossSum, Is.EqualTo(sum).Within(1e-4).Percent);
        Assert.That(batch.TargetCount, Is.EqualTo(count));
    }

    [Test]
    public void Prompts_of_a_batch_give_what_each_gives_alone_and_without_a_cache()
    {
        Make(tied: false, "q_proj", "lm_head");
        int[][] prompts = [s_text, [7, 5, 9, 3], [1, 2, 3], [5, 9]];
        var generator = new TextGenerator(Model, new GenerationOptions { MaxNewTokens = 6 });
        var together = generator.Continue(prompts);
        using var nothing = no_grad();
        for (var i = 0; i < prompts.Length; i++)
        {
            Assert.That(generator.Continue([prompts[i]])[0].OutputIds, Is.EqualTo(together[i].OutputIds), $"prompt {i}");
            using var scope = NewDisposeScope();
            var text = new List<int>(prompts[i]);
            for (var made = 0; made < 6; made++)
            {
                // The adapter goes on from the prompt's tokens, whatever is said after them.
                var input = Rows([.. text]) with { AdaptedFrom = [new InvocationTokens([5, 9]).Find(prompts[i])] };
                text.Add((int)Model.Logits(Model.call(input), input).narrow(1, text.Count - 1, 1).argmax(-1).ToInt64());
            }

            Assert.That(together[i].OutputIds, Is.EqualTo(text.Skip(prompts[i].Length)), $"prompt {i} without a cache");
        }
    }

    [Test]
    public void Logits_without_the_batch_are_refused()
    {
        Make(tied: false, "lm_head");
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        Assert.That(() => Model.Logits(Model.call(Rows(s_text))), Throws.InstanceOf<InvalidOperationException>().With.Message.Contains("lm_head").And.Message.Contains("batch"));
    }

    private void Make(bool tied, params string[] targets)
    {
        _work = new TemporaryFolder();
        _loaded = ModelLoader.Load(TinyModel.Write(_work, tied: tied), float32, CPU);
        _adapter = PeftAdapter.Create(Model, new LoraConfig { Rank = 4, Alpha = 16, InvocationTokens = [5, 9], Targets = TargetModules.Of(targets) }, seed: 3);
        using var nothing = no_grad();
        using var random = new Generator(5);
        foreach (var layer in _adapter.Layers)
        {
            _ = layer.B.normal_(0, 0.2, random);
        }
    }

    private List<double> Taken()
    {
        var norms = _adapter!.Parameters.Select(static p => p.Parameter.grad!.norm().ToDouble()).ToList();
        foreach (var (_, parameter) in _adapter.Parameters)
        {
            _ = parameter.grad!.zero_();
        }

        return norms;
    }

    private static TokenRow Packed(List<TokenRow> rows) => new([.. rows.SelectMany(static r => r.Ids)], [.. rows.SelectMany(static r => r.Labels)], [.. rows.Select(static r => r.Ids.Length)], "rows");

    private static ModelInput Rows(int[] ids) => ModelInput.Rows(tensor([.. ids.Select(static i => (long)i)], [1, ids.Length]));
}
