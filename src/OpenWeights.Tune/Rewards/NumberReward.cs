using System.Globalization;
using System.Text.RegularExpressions;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Extensions;

namespace OpenWeights.Tune.Rewards;

/// <summary>
/// 1 for an answer whose number equals that of the reference; else 0. It is the number after "####" as in GSM8K, or otherwise the last one.
/// </summary>
internal sealed partial class NumberReward(RewardSection section) : IReward
{
    private const string Mark = "####";
    private readonly Regex? _part = Patterns.Of(section);

    /// <inheritdoc/>
    public IReadOnlyList<double?> Score(IReadOnlyList<JudgedAnswer> answers) => [.. answers.Select(Score)];

    /// <summary>The number of a text; null if there is none.</summary>
    internal static decimal? Number(string text)
    {
        var marked = text.LastIndexOf(Mark, StringComparison.Ordinal);
        var found = marked >= 0 ? Numbers().Match(text, marked) : Numbers().Matches(text).LastOrDefault();
        return found is { Success: true } && decimal.TryParse(found.Value.Replace(",", "", StringComparison.Ordinal), NumberStyles.Float, CultureInfo.InvariantCulture, out var number) ? number : null;
    }

    private double? Score(JudgedAnswer answer)
    {
        var wanted = Number(Patterns.Reference(answer, section)) ?? throw new TrainingFailedException($"{answer.Place}: the reference answer has no number; name its column with the reward's field.");
        return Patterns.Part(_part, answer.Answer) is { } part && Number(part) == wanted ? 1 : 0;
    }

    // A comma counts only between groups of three digits.
    [GeneratedRegex(@"(?<![\w.])-?(\d{1,3}(,\d{3})+|\d+)(\.\d+)?")]
    private static partial Regex Numbers();
}
