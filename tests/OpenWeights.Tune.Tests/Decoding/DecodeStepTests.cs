using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Layers.FeedForward;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Decoding.Decode;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Tests.Kernels;
using OpenWeights.Tune.Tests.Models.Families;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Decoding;

/// <summary>Single tokens in one go against the same tokens by torch's operators, for every family and each width of vectors.</summary>
[TestFixture(true)]
[TestFixture(false)]
public sealed class DecodeStepTests(bool wide)
{
    private const int FewTokens = 30;
    private const int ManyTokens = 80;

    private VectorWidth? _width;

    [SetUp]
    public void Choose() => _width = new VectorWidth(wide);

    [TearDown]
    public void Restore() => _width!.Dispose();

    [Test]
    public void Scores_are_those_of_single_operators([ValueSource(typeof(FamilyCases), nameof(FamilyCases.Names))] string name, [Values] bool adapted)
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(FamilyCases.Write(folder, name), float32, CPU);
        using var adapter = adapted ? Adapt(loaded.Model) : null;
        foreach (var (steps, operators) in Both(loaded.Model, loaded.Model, [0, 5, 2], adapted ? FewTokens : ManyTokens))
        {
            using (steps)
            using (operators)
            {
                Assert.That(Golden.LargestDifference(steps, operators), Is.LessThan(3e-5));
            }
        }
    }

    [TestCase("llama")]
    [TestCase("qwen3")]
    [TestCase("gemma2")]
    [TestCase("olmo2")]
    public void In_bfloat16_scores_are_as_near_to_those_of_float32_as_single_operators_are(string name)
    {
        using var folder = new TemporaryFolder();
        var path = FamilyCases.Write(folder, name);
        using var full = ModelLoader.Load(path, float32, CPU);
        using var half = ModelLoader.Load(path, bfloat16, CPU);
        using var adapterOfFull = Adapt(full.Model);
        using var adapterOfHalf = Adapt(half.Model);
        var (steps, operators) = (Errors(half.Model, full.Model, bySteps: true), Errors(half.Model, full.Model, bySteps: false));

        // Steps round no more often than single operators, but elsewhere. What is rounded within a token moves all of its scores together, so
        // each error is the norm of about one random number for each token, and the ratio of two such norms spreads by 1 / sqrt(tokens).
        Assert.That(steps, Is.GreaterThan(0).And.LessThan((1 + (3 / Math.Sqrt(2 * FewTokens))) * operators));
    }

    [Test]
    public void What_is_more_than_a_dense_model_with_low_rank_updates_is_left_to_single_operators()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, CPU);
        var model = loaded.Model;
        Assert.That(DecodeStep.Of(model, 1), Is.Not.Null);
        Assert.That(DecodeStep.Of(model, DecodeStep.MaxRows + 1), Is.Null);
        using (var adapter = PeftAdapter.Create(model, new LoraConfig { Rank = 2, UseDora = true }, seed: 1))
        {
            Assert.That(DecodeStep.Of(model, 1), Is.Null, "DoRA");
        }

        using (var adapter = PeftAdapter.Create(model, new LoraConfig { Rank = 2, Dropout = 0.5 }, seed: 1))
        {
            Assert.That(DecodeStep.Of(model, 1), Is.Not.Null);
            adapter.Training = true;
            Assert.That(DecodeStep.Of(model, 1), Is.Null, "dropout");
        }

        using var mixture = FamilyCases.Make("mixtral");
        Assert.That(DecodeStep.Of(mixture, 1), Is.Not.Null);
        using (var adapter = PeftAdapter.Create(mixture, new LoraConfig { Rank = 2, TargetParameters = ["mlp.experts.down_proj"] }, seed: 1))
        {
            Assert.That(DecodeStep.Of(mixture, 1), Is.Null, "low-rank updates of experts");
        }

        using var recurrent = FamilyCases.Make("mamba2");
        Assert.That(DecodeStep.Of(recurrent, 1), Is.Null, "a recurrence");
    }

    private static PeftAdapter Adapt(CausalLanguageModel model)
    {
        var adapter = PeftAdapter.Create(model, new LoraConfig { Rank = 3 }, seed: 1);
        using var nothing = no_grad();
        _ = manual_seed(2);
        adapter.Layers.ToList().ForEach(static l => l.B.normal_(0, 0.1));
        return adapter;
    }

    // How far a model's scores are from another's.
    private static double Errors(CausalLanguageModel model, CausalLanguageModel other, bool bySteps)
    {
        var sum = 0.0;
        foreach (var (found, exact) in Both(model, other, [0, 3], FewTokens, bySteps))
        {
            using (found)
            using (exact)
            {
                sum += Math.Pow(found.sub(exact).norm().ToDouble(), 2);
            }
        }

        return Math.Sqrt(sum);
    }

    // Another mixer than attention, a mixture of experts, or an activation that is learned or has the error function.
    private static bool IsComputedByItself(LayerConfig layer) =>
        layer.Mixer is not (null or AttentionSettings) || layer.FeedForward is { } part and not GatedFeedForwardSettings && part is not PlainFeedForwardSettings { LearnsActivation: false, Activation: not Activation.Gelu };

    // The scores of each token of some texts: in steps of one model, and by the operators of another. The first tokens of texts are padding.
    private static IEnumerable<(Tensor Found, Tensor Operators)> Both(CausalLanguageModel model, CausalLanguageModel other, int[] padding, int tokens, bool bySteps = true)
    {
        using var nothing = no_grad();
        using DecoderCache cache = new(), otherCache = new();
        if (model.Config.Rope.DependsOnLength)
        {
            padding = [0];
        }

        if (DecodeStep.Of(model, padding.Length) is not { } step)
        {
            Assert.That(model.Config.Layers.Any(IsComputedByItself) || model.Config.Activation == Activation.Gelu || model.Config is { LayerFactor: not null } or { Streams: not null }, "all others are computed in steps");
            yield break;
        }

        var ids = padding.Select((_, row) => Enumerable.Range(0, tokens).Select(i => ((i * 37) + (row * 11)) % FamilyCases.Vocabulary).ToArray()).ToArray();
        foreach (var (start, end) in Parts(tokens))
        {
            using var scope = NewDisposeScope();
            if (!model.Stack.Continues(cache, end - 1))
            {
                yield break;
            }

            var operators = Scores(other, ids, (start, end), padding, otherCache);
            var found = bySteps && end - start == 1
                ? tensor(step.Read(Array.ConvertAll(ids, row => row[start]), padding, cache).ToArray(), [padding.Length, model.Config.VocabularySize])
                : Scores(model, ids, (start, end), padding, cache);
            yield return (found.DetachFromDisposeScope(), operators.DetachFromDisposeScope());
        }

        Assert.That((cache.Length, cache.LongestPosition), Is.EqualTo((otherCache.Length, otherCache.LongestPosition)));
    }

    // A prompt and some more in the midst, and single tokens; past the ends of the caches' first buffers, and of sliding windows.
    private static IEnumerable<(int Start, int End)> Parts(int tokens)
    {
        yield return (0, 7);
        for (var i = 7; i < tokens; i += i == 20 ? 3 : 1)
        {
            yield return (i, i == 20 ? i + 3 : i + 1);
        }
    }

    private static Tensor Scores(CausalLanguageModel model, int[][] ids, (int Start, int End) part, int[] padding, DecoderCache cache)
    {
        CpuKernel.Enabled = false;
        try
        {
            var (rows, tokens) = (ids.Length, part.End - part.Start);
            Tensor Numbers(int first, int end, Func<int, int, long> number) =>
                tensor([.. Enumerable.Range(0, rows).SelectMany(row => Enumerable.Range(first, end - first).Select(i => number(row, i)))], [rows, end - first]);
            var hidden = model.call(new ModelInput
            {
                InputIds = Numbers(part.Start, part.End, (row, i) => ids[row][i]),
                PositionIds = Numbers(part.Start, part.End, (row, i) => Math.Max(0, i - padding[row])),
                LongestPosition = part.End - 1 - padding.Min(),
                Documents = Array.TrueForAll(padding, static p => p == 0) ? null : Numbers(0, part.End, (row, i) => i < padding[row] ? 0 : 1),
                Cache = cache,
            });
            return model.Logits(hidden.narrow(1, tokens - 1, 1)).view(rows, -1);
        }
        finally
        {
            CpuKernel.Enabled = true;
        }
    }
}
