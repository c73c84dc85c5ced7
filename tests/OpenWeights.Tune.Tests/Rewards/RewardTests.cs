using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Extensions;
using OpenWeights.Tune.Rewards;

namespace OpenWeights.Tune.Tests.Rewards;

/// <summary>Each kind of reward on answers whose worth is known.</summary>
public sealed class RewardTests
{
    [Test]
    public void Every_name_of_the_config_is_a_reward() =>
        Assert.That(RewardKinds.Names, Is.EquivalentTo(SettingInfo.Of(typeof(RewardSection)).First(static s => s.Key == "type").Setting.OneOf));

    [TestCase("2005-03-03", "2005-03-03", 1)]
    [TestCase(" 2005-03-03\n", "2005-03-03", 1)]
    [TestCase("2005-03-04", "2005-03-03", 0)]
    [TestCase("Yes", "yes", 0)]
    public void Exact_match_ignores_white_space_around_an_answer(string answer, string expected, double reward) =>
        Assert.That(Score(new RewardSection { Type = "exact_match" }, answer, expected), Is.EqualTo(reward));

    [TestCase("It is <answer>yes</answer>.", "YES", 1)]
    [TestCase("It is yes.", "yes", 0)]
    public void Exact_match_compares_the_part_that_a_pattern_finds(string answer, string expected, double reward) =>
        Assert.That(Score(new RewardSection { Type = "exact_match", Pattern = "<answer>(.*?)</answer>", IgnoreCase = true }, answer, expected), Is.EqualTo(reward));

    [TestCase("2005-04-03", 1)]
    [TestCase("2006-03-03", 0)]
    [TestCase("in 2005", 0)]
    public void Exact_match_compares_the_same_part_of_a_reference_that_has_it(string answer, double reward) =>
        Assert.That(Score(new RewardSection { Type = "exact_match", Pattern = "^([0-9]{4})-" }, answer, "2005-03-03"), Is.EqualTo(reward));

    [TestCase("So there are 12 eggs left.", "She has 16 - 4 = 12 eggs.\n#### 12", 1)]
    [TestCase("12 eggs, no, 13", "#### 12", 0)]
    [TestCase("#### 1,200 dollars in 3 days", "1200", 1)]
    [TestCase("The result is -3.50", "-3.5", 1)]
    [TestCase("It costs $4.", "4", 1)]
    [TestCase("none", "4", 0)]
    [TestCase("1, 2, 3", "3", 1)]
    public void A_number_is_the_one_after_the_mark_or_the_last(string answer, string expected, double reward) =>
        Assert.That(Score(new RewardSection { Type = "number" }, answer, expected), Is.EqualTo(reward));

    [Test]
    public void A_reference_without_a_number_is_told_with_its_row() => Assert.That(
        static () => Score(new RewardSection { Type = "number" }, "4", "four"), Throws.InstanceOf<TrainingFailedException>().With.Message.Contains("rows.jsonl line 3").And.Message.Contains("no number"));

    [TestCase("^[0-9]{4}-[0-9]{2}$", "2005-03", 1)]
    [TestCase("^[0-9]{4}-[0-9]{2}$", "2005-3", 0)]
    public void A_pattern_occurs_or_not(string pattern, string answer, double reward) =>
        Assert.That(Score(new RewardSection { Type = "regex", Pattern = pattern }, answer, null), Is.EqualTo(reward));

    [Test]
    public void A_pattern_may_be_the_rows() => Assert.Multiple(static () =>
    {
        Assert.That(Score(new RewardSection { Type = "regex", Field = "wanted" }, "abc", null, new JsonObject { ["wanted"] = "b" }), Is.EqualTo(1));
        Assert.That(Score(new RewardSection { Type = "regex", Field = "wanted" }, "abc", null, new JsonObject { ["wanted"] = "x" }), Is.EqualTo(0));
        Assert.That(static () => Score(new RewardSection { Type = "regex", Field = "wanted" }, "abc", null), Throws.InstanceOf<TrainingFailedException>().With.Message.Contains("no column \"wanted\""));
    });

    [TestCase("<think>two and two</think>\nfour", 1)]
    [TestCase("two and two</think> four", 0)]
    [TestCase("<think>a</think>", 0)]
    [TestCase("<think><think>a</think>b", 0)]
    public void A_format_is_reasoning_and_then_an_answer(string answer, double reward) => Assert.That(Score(new RewardSection { Type = "format" }, answer, null), Is.EqualTo(reward));

    [TestCase(3, 1.0)]
    [TestCase(4, 1.0)]
    [TestCase(5, 0.75)]
    [TestCase(8, 0.0)]
    [TestCase(1, 0.75)]
    public void A_length_falls_beyond_its_limits(int tokens, double reward) =>
        Assert.That(Score(new RewardSection { Type = "length", MinTokens = 2, MaxTokens = 4, Slope = 3 }, "", null, tokens: tokens), Is.EqualTo(reward).Within(1e-12));

    [TestCase("{\"name\": \"Ada\", \"born\": 1815}", 1)]
    [TestCase("{\"name\": \"Ada\", \"born\": \"1815\"}", 0)]
    [TestCase("{\"name\": \"Ada\"", 0)]
    [TestCase("Ada", 0)]
    public void JSON_is_of_a_schema_or_not(string answer, double reward)
    {
        const string schema = """{"type": "object", "required": ["name", "born"], "properties": {"name": {"type": "string"}, "born": {"type": "integer"}}}""";
        using var folder = new TemporaryFolder();
        Assert.That(Score(new RewardSection { Type = "json_schema", Schema = folder.Write("schema.json", schema) }, answer, null), Is.EqualTo(reward));
        Assert.That(Score(new RewardSection { Type = "json_schema" }, answer, null, new JsonObject { ["schema"] = JsonNode.Parse(schema) }), Is.EqualTo(reward));
    }

    [Test]
    public void A_class_of_an_assembly_judges() => Assert.Multiple(static () =>
    {
        var path = typeof(RewardTests).Assembly.Location;
        Assert.That(Score(new RewardSection { Type = "class", Assembly = path, Class = nameof(VowelReward) }, "aeb", null), Is.EqualTo(2));
        Assert.That(Score(new RewardSection { Type = "class", Assembly = path, Class = typeof(NamedReward).FullName, Name = "ab" }, "", null), Is.EqualTo(2), "the settings are given to its constructor");
        Assert.That(static () => Score(new RewardSection { Type = "class", Assembly = typeof(RewardTests).Assembly.Location }, "", null), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("public classes implement IReward"));
        Assert.That(static () => Score(new RewardSection { Type = "class", Assembly = typeof(RewardTests).Assembly.Location, Class = "Vowels" }, "", null), Throws.InstanceOf<InvalidDataException>().With.Message.Contains(nameof(VowelReward)));
        Assert.That(static () => Score(new RewardSection { Type = "class", Assembly = "no.dll" }, "", null), Throws.InstanceOf<FileNotFoundException>().With.Message.Contains("no.dll"));
    });

    [Test]
    public void Several_rewards_have_names_and_each_answer_has_all()
    {
        using var set = RewardSet.Create([new RewardSection { Type = "exact_match" }, new RewardSection { Type = "length", MaxTokens = 2, Name = "short" }]);
        var rewards = set.Score([Answer("a", "a"), Answer("b", "a", tokens: 9)]);
        Assert.That(rewards[0], Is.EquivalentTo(new Dictionary<string, double?> { ["exact_match"] = 1, ["short"] = 1 }));
        Assert.That(rewards[1], Is.EquivalentTo(new Dictionary<string, double?> { ["exact_match"] = 0, ["short"] = 0 }));
    }

    [Test]
    public void A_reward_that_is_no_number_is_refused_with_its_row()
    {
        using var set = RewardSet.Create([new RewardSection { Type = "class", Assembly = typeof(RewardTests).Assembly.Location, Class = nameof(BrokenReward) }]);
        Assert.That(() => set.Score([Answer("a", null)]), Throws.InstanceOf<TrainingFailedException>().With.Message.Contains("rows.jsonl line 3").And.Message.Contains("NaN"));
        Assert.That(() => set.Score([Answer("a", null), Answer("a", null)]), Throws.InstanceOf<TrainingFailedException>().With.Message.Contains("1 rewards for 2 answers"));
    }

    /// <summary>The reward of an answer.</summary>
    internal static double? Score(RewardSection section, string answer, string? expected, JsonObject? row = null, int tokens = 1)
    {
        var reward = RewardKinds.Create(section);
        using var disposed = reward as IDisposable;
        return reward.Score([Answer(answer, expected, row, tokens)])[0];
    }

    /// <summary>An answer to judge.</summary>
    internal static JudgedAnswer Answer(string answer, string? expected, JsonObject? row = null, int tokens = 1) => new()
    {
        Prompt = "prompt",
        Answer = answer,
        Completion = answer,
        Expected = expected,
        Row = row ?? [],
        PromptIds = [1],
        AnswerIds = [.. Enumerable.Range(0, tokens)],
        IsTruncated = false,
        Place = "rows.jsonl line 3",
    };
}

/// <summary>A reward of another assembly: the number of vowels.</summary>
public sealed class VowelReward : IReward
{
    /// <inheritdoc/>
    public IReadOnlyList<double?> Score(IReadOnlyList<JudgedAnswer> answers) => [.. answers.Select(static a => (double?)a.Answer.Count(static c => "aeiou".Contains(c, StringComparison.Ordinal)))];
}

/// <summary>A reward that reads its settings: the length of its name.</summary>
/// <param name="settings">The settings.</param>
public sealed class NamedReward(RewardSection settings) : IReward
{
    /// <inheritdoc/>
    public IReadOnlyList<double?> Score(IReadOnlyList<JudgedAnswer> answers) => [.. answers.Select(_ => (double?)settings.MetricName.Length)];
}

/// <summary>A reward with faults.</summary>
public sealed class BrokenReward : IReward
{
    /// <inheritdoc/>
    public IReadOnlyList<double?> Score(IReadOnlyList<JudgedAnswer> answers) => [double.NaN];
}
