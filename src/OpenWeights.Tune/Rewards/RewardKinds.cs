using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Extensions;

namespace OpenWeights.Tune.Rewards;

/// <summary>The kinds of rewards by config name. To add one, add its file, a line here, and its name to <see cref="RewardSection.Type"/>.</summary>
internal static class RewardKinds
{
    private static readonly Dictionary<string, Func<RewardSection, Func<RewardSection, IRewardModel>?, IReward>> s_kinds = new()
    {
        ["exact_match"] = static (s, _) => new ExactMatchReward(s),
        ["number"] = static (s, _) => new NumberReward(s),
        ["regex"] = static (s, _) => new RegexReward(s),
        ["format"] = static (s, _) => new FormatReward(s),
        ["length"] = static (s, _) => new LengthReward(s),
        ["json_schema"] = static (s, _) => new JsonSchemaReward(s),
        ["model"] = static (s, load) => new ModelReward((load ?? throw new InvalidOperationException("a reward model is loaded by a run."))(s)),
        ["class"] = static (s, _) => OwnClass.Create<IReward>(s.Assembly!, s.Class, s),
        ["command"] = static (s, _) => new CommandReward(s),
    };

    /// <summary>The valid config names.</summary>
    public static IReadOnlyList<string> Names { get; } = [.. s_kinds.Keys];

    /// <summary>Creates a reward.</summary>
    /// <param name="section">Its settings.</param>
    /// <param name="load">Loads a reward model; null where there is none.</param>
    /// <exception cref="InvalidDataException">A file of the reward cannot be used.</exception>
    /// <exception cref="IOException">A file of the reward is missing.</exception>
    public static IReward Create(RewardSection section, Func<RewardSection, IRewardModel>? load = null)
    {
        ArgumentNullException.ThrowIfNull(section);
        return section.Custom is { } own ? own
            : OwnClass.Is(section.Type) ? OwnClass.Create<IReward>(section.Type, section)
            : s_kinds.TryGetValue(section.Type, out var create) ? create(section, load)
            : throw new InvalidDataException($"'{section.Type}' is not a reward; valid are {string.Join(", ", Names)}.{Spelling.DidYouMean(section.Type, Names)}");
    }
}
