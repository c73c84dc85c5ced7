using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Tests.Training.Ranks;

/// <summary>Every objective has one trajectory, and one set of metrics, for any number of ranks.</summary>
[TestFixture]
public sealed class RankObjectiveTests
{
    private static readonly RewardSection s_short = new() { Type = "length", MaxTokens = 3, Slope = 6 };

    private static readonly Dictionary<string, (string Rows, ObjectiveSection Objective)> s_objectives = new()
    {
        ["dpo"] = ("pairs", new ObjectiveSection { Type = "dpo", Reference = "base" }),
        ["dpo with sft"] = ("pairs", new ObjectiveSection { Type = "dpo", Reference = "base", LossType = new TextOrList(["sigmoid", "sft"], IsList: true), LossWeights = [1, 0.5] }),
        ["dpo with a reference that follows"] = ("pairs", new ObjectiveSection { Type = "dpo", Reference = "start", SyncRefModel = true, RefModelSyncSteps = 3, RefModelMixupAlpha = 0.4 }),
        ["orpo"] = ("pairs", new ObjectiveSection { Type = "orpo" }),
        ["simpo"] = ("pairs", new ObjectiveSection { Type = "cpo", LossType = new TextOrList(["simpo"], IsList: false) }),
        ["kto"] = ("answers", new ObjectiveSection { Type = "kto", Reference = "base" }),
        ["bco"] = ("answers", new ObjectiveSection { Type = "bco", Reference = "base" }),
        ["reward"] = ("pairs", new ObjectiveSection { Type = "reward", CenterRewardsCoefficient = 0.1 }),
        ["classification"] = ("classes", new ObjectiveSection { Type = "classification" }),
        ["embedding"] = ("texts", new ObjectiveSection { Type = "embedding", Temperature = 0.5 }),
        ["distill"] = ("rows", new ObjectiveSection { Type = "distill", Teacher = "teacher" }),
        ["distill on the teacher's answers"] = ("asked", new ObjectiveSection { Type = "distill", Teacher = "teacher", SeqKd = true, MaxCompletionLength = 6 }),
        ["distill on the student's answers"] = ("asked", new ObjectiveSection { Type = "distill", Teacher = "teacher", Lmbda = 1, MaxCompletionLength = 6 }),
        ["grpo"] = ("prompts", new ObjectiveSection { Type = "grpo", NumGenerations = 2, MaxCompletionLength = 6, Beta = 0.05, Rewards = [s_short] }),
        ["grpo in two passes"] = ("prompts", new ObjectiveSection { Type = "grpo", NumGenerations = 2, MaxCompletionLength = 6, NumIterations = 2, EntropyCoef = 0.01, Rewards = [s_short] }),
        ["rloo"] = ("prompts", new ObjectiveSection { Type = "rloo", NumGenerations = 2, MaxCompletionLength = 6, Beta = 0.05, Rewards = [s_short] }),
    };

    public static IEnumerable<string> Objectives => s_objectives.Keys;

    [Test]
    public void An_objective_is_the_same_for_one_two_and_four_ranks([ValueSource(nameof(Objectives))] string name)
    {
        using var folder = new TemporaryFolder();
        RequireSame(folder, name, static c => c, [2, 4]);
    }

    /// <summary>Each objective with each kind of sharing that it goes with, with an adapter and without.</summary>
    public static IEnumerable<object[]> Shared =>
        from name in s_objectives.Keys
        from shard in new[] { "gradients", "parameters" }
        from adapter in new[] { true, false }
        select new object[] { name, shard, adapter };

    [TestCaseSource(nameof(Shared))]
    public void An_objective_is_the_same_for_ranks_that_share_out(string name, string shard, bool adapter)
    {
        using var folder = new TemporaryFolder();
        RequireSame(
            folder,
            name,
            c => c with
            {
                Adapter = adapter ? c.Adapter : null,
                Training = c.Training with { ActivationCheckpointing = "block", LearningRate = adapter ? 5e-3 : 1e-3 },
                Parallel = c.Parallel with { Shard = shard },
            },
            [adapter ? 2 : 4]);
    }

    private static void RequireSame(TemporaryFolder folder, string name, Func<RunConfig, RunConfig> change, int[] sizes)
    {
        var one = RankRun.Of(1, change(Config(folder, name, "one")));
        foreach (var ranks in sizes)
        {
            var several = RankRun.Of(ranks, change(Config(folder, name, $"of{ranks}")));
            several.RequireSame(one);
            foreach (var (step, expected) in several.Steps.Zip(one.Steps))
            {
                var (metrics, wanted) = (Without(step.Objective), Without(expected.Objective));
                Assert.That(metrics.Keys, Is.EquivalentTo(wanted.Keys));
                foreach (var (key, value) in wanted)
                {
                    Assert.That(metrics[key], Is.EqualTo(value).Within(Math.Max(1e-5, 1e-4 * Math.Abs(value))), $"{key} of step {step.Step}");
                }
            }

            foreach (var (evaluation, expected) in several.Evaluations.Zip(one.Evaluations))
            {
                Assert.That(evaluation.Loss, Is.EqualTo(expected.Loss).Within(1e-5));
                Assert.That(evaluation.Objective.Keys, Is.EquivalentTo(expected.Objective.Keys));
            }

            Assert.That(File.Exists(folder.At($"of{ranks}", "samples.jsonl")), Is.EqualTo(File.Exists(folder.At("one", "samples.jsonl"))));
            if (name is "grpo" or "rloo")
            {
                Assert.That(Tokens(folder.At($"of{ranks}", "samples.jsonl")), Is.EqualTo(Tokens(folder.At("one", "samples.jsonl"))));
            }
        }
    }

    private static List<string> Tokens(string path) => [.. File.ReadLines(path).Select(static l => System.Text.Json.Nodes.JsonNode.Parse(l)!).Select(static l => $"{l["step"]} {l["group"]} {l["completion_ids"]!.ToJsonString()} {l["rewards"]!.ToJsonString()} {l["logprobs"]?.AsArray().Count}")];

    private static Dictionary<string, double> Without(IReadOnlyDictionary<string, double> metrics) => metrics.Where(static m => !m.Key.StartsWith("seconds/", StringComparison.Ordinal)).ToDictionary();

    private static RunConfig Config(TemporaryFolder folder, string name, string run)
    {
        var (kind, objective) = s_objectives[name];
        var config = RankRun.Config(folder, run);
        if (objective.Teacher is not null)
        {
            objective = objective with { Teacher = Directory.Exists(folder.At("teacher")) ? folder.At("teacher") : TinyModel.Write(folder, "teacher", seed: 8) };
        }

        // Samples come from the same weights as long as rounding does not change a draw: few steps.
        var isSampled = kind == "prompts" || objective.Lmbda > 0;
        return config with
        {
            Objective = objective,
            Adapter = config.Adapter! with { TargetModules = new TextOrList(["all-linear"], IsList: false) },
            Data = config.Data with { Train = [new DataSource { Path = Rows(folder, kind, 27, seed: 1) }], CacheDir = folder.At("cache"), Eval = isSampled ? [] : [new DataSource { Path = Rows(folder, kind, 11, seed: 2) }] },
            Evaluation = new EvaluationSection { EverySteps = isSampled ? 0 : 4, GenerateRows = 0 },
            Training = config.Training with { MaxSteps = isSampled ? 4 : 12 },
        };
    }

    private static string Rows(TemporaryFolder folder, string kind, int count, int seed)
    {
        var random = new Random(seed);
        string Ids(int least, int most) => $"[{string.Join(',', Enumerable.Range(0, random.Next(least, most)).Select(_ => random.Next(TinyModel.Vocabulary)))}]";
        return folder.Write($"{kind}{count}.jsonl", string.Concat(Enumerable.Range(0, count).Select(i => (kind switch
        {
            "pairs" => $$"""{"prompt_ids":{{Ids(2, 6)}},"chosen_ids":{{Ids(3, 9)}},"rejected_ids":{{Ids(3, 9)}}}""",
            "answers" => $$"""{"prompt_ids":{{Ids(2, 6)}},"completion_ids":{{Ids(3, 9)}},"label":{{(i % 3 == 0 ? "false" : "true")}}}""",
            "classes" => $$"""{"input_ids":{{Ids(4, 12)}},"label":"{{"abc"[i % 3]}}"}""",
            "texts" => $$"""{"anchor_ids":{{Ids(3, 9)}},"positive_ids":{{Ids(3, 9)}}{{(i % 3 == 0 ? $",\"negative_ids\":[{Ids(3, 9)}]" : "")}}}""",
            "prompts" => $$"""{"prompt_ids":{{Ids(2, 6)}}}""",
            "asked" => $$"""{"input_ids":[1,{{random.Next(TinyModel.Vocabulary)}},{{random.Next(TinyModel.Vocabulary)}},4,5],"labels":[-100,-100,-100,4,5]}""",
            _ => $$"""{"input_ids":{{Ids(6, 20)}}}""",
        }) + "\n")));
    }
}
