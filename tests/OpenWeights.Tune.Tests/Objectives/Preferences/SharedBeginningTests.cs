using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Objectives.Preferences;
using OpenWeights.Tune.Tests.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Objectives.Preferences;

/// <summary>Pairs whose common beginning is computed once.</summary>
public sealed class SharedBeginningTests
{
    // Prompt, chosen and rejected answers of different lengths; answers that begin alike; no prompt; an answer that begins with the other; and a long answer before a short one.
    private static readonly (int[] Prompt, int[] Chosen, int[] Rejected)[] s_pairs =
    [
        ([5, 9, 17, 33, 2, 8, 41, 7, 19, 23], [11, 12, 13], [21, 22]),
        ([1, 2, 3, 4, 5, 6], [7, 8, 9, 10], [7, 8, 50, 51, 52]),
        ([60, 61, 62, 63, 64, 65, 66, 67], [30, 31], [30, 31, 32, 33]),
        ([], [70, 71, 72, 73], [74, 75, 76, 77]),
        ([5, 9, 17, 33, 2, 8, 41, 7, 19, 23], [40, 42, 43, 44, 45, 46, 47, 48, 49, 55, 56, 57], [58, 59, 60]),
    ];

    [Test]
    public void Their_log_probabilities_and_gradients_are_those_of_separate_rows()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, CPU);
        var rows = s_pairs.SelectMany(static p => new[] { Row(p.Prompt, p.Chosen, RowRole.Chosen), Row(p.Prompt, p.Rejected, RowRole.Rejected) }).ToList();
        foreach (var (_, parameter) in loaded.Model.named_parameters())
        {
            parameter.requires_grad = true;
        }

        (Tensor LogProbs, Tensor Gradient) Of(Func<TokenBatch> make)
        {
            using var scope = NewDisposeScope();
            var embedding = loaded.Model.Stack.Embedding.Weight;
            embedding.grad = null;
            var logProbs = TokenLogProbs.Of(loaded.Model, make()).LogProbs;

            // Each token has a weight of its own, so that none stands for another.
            logProbs.mul(arange(1, logProbs.size(0) + 1).to(float32)).sum().backward();
            return (logProbs.detach().clone().MoveToOuterDisposeScope(), embedding.grad!.clone().MoveToOuterDisposeScope());
        }

        using var scope = NewDisposeScope();
        var plain = Of(() => TokenBatch.Of(rows, padId: 0, CPU));
        var shared = Of(() => TokenBatch.OfPairs(rows, padId: 0, CPU));
        Assert.That(Golden.LargestDifference(shared.LogProbs, plain.LogProbs), Is.LessThan(1e-5));
        Assert.That(Golden.LargestDifference(shared.Gradient, plain.Gradient), Is.LessThan(1e-5 * plain.Gradient.norm().ToDouble()));
    }

    [Test]
    public void They_are_shared_where_that_saves_tokens_and_the_model_attends_to_all()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, CPU);
        List<TokenRow> RowsOf(params (int[] Prompt, int[] Chosen, int[] Rejected)[] pairs) =>
            [.. pairs.SelectMany(static p => new[] { Row(p.Prompt, p.Chosen, RowRole.Chosen), Row(p.Prompt, p.Rejected, RowRole.Rejected) })];
        bool Shares(List<TokenRow> rows) => AnswerBatch.Of(rows, loaded.Model, shares: true).Tokens.Input.SharesBeginning;
        using var scope = NewDisposeScope();
        Assert.That(Shares(RowsOf(s_pairs[0])), Is.True);
        Assert.That(Shares(RowsOf(s_pairs[3])), Is.False, "there is nothing to share");
        Assert.That(AnswerBatch.Of(RowsOf(s_pairs[0]), loaded.Model).Tokens.Input.SharesBeginning, Is.False, "not asked for");
        Assert.That(new PairLayout(RowsOf(s_pairs[..3])).Width, Is.EqualTo(15));
    }

    [TestCaseSource(typeof(Families2026Tests), nameof(Families2026Tests.Cases))]
    [Category(TestDevice.Parity)]
    public void Every_family_shares_exactly_or_not_at_all(string name)
    {
        using var golden = new Golden(name, Families2026Tests.Set);
        using var loaded = ModelLoader.Load(golden.Folder, float32, CPU);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var rows = s_pairs.SelectMany(static p => new[] { Row(p.Prompt, p.Chosen, RowRole.Chosen), Row(p.Prompt, p.Rejected, RowRole.Rejected) }).ToList();
        var difference = Golden.LargestDifference(
            TokenLogProbs.Of(loaded.Model, TokenBatch.OfPairs(rows, padId: 0, CPU)).LogProbs, TokenLogProbs.Of(loaded.Model, TokenBatch.Of(rows, padId: 0, CPU)).LogProbs);

        // Where it is not allowed it would be another model: a state that is carried on, or a window that counts other tokens.
        Assert.That(difference, loaded.Model.CanShareBeginnings(new PairLayout(rows).Width) ? Is.LessThan(1e-4) : Is.GreaterThan(1e-4));
    }

    private static TokenRow Row(int[] prompt, int[] answer, RowRole role) =>
        new([.. prompt, .. answer], [.. Enumerable.Repeat(TokenRow.Ignored, prompt.Length), .. answer], "row") { Role = role };
}
