using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Rewards;

/// <summary>The kinds of rewards by config name. To add one, add its file, a line here, and its name to <see cref="RewardSection.Type"/>.</summary>
public static class RewardKinds
{
    private static readonly Dictionary<string, Func<RewardSection, IReward>> s_kinds = new()
    {
        ["exact_match"] = static s => new ExactMatchReward(s),
        ["number"] = static s => new NumberReward(s),
        ["regex"] = static s => new RegexReward(s),
        ["format"] = static s => new FormatReward(s),
        ["length"] = static s => new LengthReward(s),
        ["json_schema"] = static s => new JsonSchemaReward(s),
        ["class"] = ClassReward.Create,
        ["command"] = static s => new CommandReward(s),
    };

    /// <summary>The valid config names.</summary>
    public static IReadOnlyList<string> Names { get; } = [.. s_kinds.Keys];

    /// <summary>Creates a reward.</summary>
    /// <param name="section">Its settings.</param>
    /// <exception cref="InvalidDataException">A file of the reward cannot be used.</exception>
    /// <exception cref="IOException">A file of the reward is missing.</exception>
    public static IReward Create(RewardSection section)
    {
        ArgumentNullException.ThrowIfNull(section);
        return s_kinds.TryGetValue(section.Type, out var create) ? create(section)
            : throw new InvalidDataException($"'{section.Type}' is not a reward; valid are {string.Join(", ", Names)}.{Spelling.DidYouMean(section.Type, Names)}");
    }
}
