using OpenWeights.Tune.Extensions;

namespace OpenWeights.Tune.Configuration;

/// <summary>A reward of objective.rewards.</summary>
public sealed record RewardSection
{
    /// <summary>Kind of reward.</summary>
    [Setting("Kind of reward: exact_match (the answer equals the reference), number (the last number does, as in GSM8K), regex (a pattern occurs), format (the whole answer has a pattern; think tags unless given), length, json_schema (it is JSON of a schema), model (a reward model), class (a C# class; FILE.dll:CLASS names one too), or command (a program).", Required = true, OneOf = ["exact_match", "number", "regex", "format", "length", "json_schema", "model", "class", "command"], OrOwnClass = true)]
    public string Type { get => Custom is { } own ? OwnClass.NameOf(own) : field; init; } = "";

    /// <summary>A reward of your own, in the place of <see cref="Type"/>; null for none.</summary>
    public IReward? Custom { get; init; }

    /// <summary>Its name in metrics.</summary>
    [Setting("Name in metrics, as in rewards/NAME/mean; the type unless given.")]
    public string? Name { get; init; }

    /// <summary>Its weight.</summary>
    [Setting("Weight of the reward; objective.reward_weights sets those of all.")]
    public double Weight { get; init; } = 1;

    /// <summary>Column of the reference answer.</summary>
    [Setting("exact_match, number and regex: column of the row with the reference answer (for regex, with the pattern); the row's answer unless given.")]
    public string? Field { get; init; }

    /// <summary>Regular expression.</summary>
    [Setting("regex and format: a regular expression of .NET. exact_match and number: the part of the answer that is compared, its first group; exact_match takes the same part of a reference that has it.")]
    public string? Pattern { get; init; }

    /// <summary>Whether case is ignored.</summary>
    [Setting("exact_match, regex and format: ignore case.")]
    public bool IgnoreCase { get; init; }

    /// <summary>Shortest answer.</summary>
    [Setting("length: number of tokens from which on the reward is 1.", Min = 0)]
    public int MinTokens { get; init; }

    /// <summary>Longest answer.</summary>
    [Setting("length: number of tokens up to which the reward is 1.", Min = 1)]
    public int? MaxTokens { get; init; }

    /// <summary>Range in which the reward falls.</summary>
    [Setting("length: number of tokens beyond both limits over which the reward falls from 1 to 0.", Min = 0)]
    public int Slope { get; init; }

    /// <summary>JSON schema.</summary>
    [Setting("json_schema: file of the schema; the column schema of the row unless given.", IsPath = true)]
    public string? Schema { get; init; }

    /// <summary>The reward model.</summary>
    [Setting("model: the reward model (objective.type: reward): a folder, a run that trained one, or a name on the Hub. It reads prompt and answer with its own tokenizer and chat template.")]
    public string? Model { get; init; }

    /// <summary>Assembly of a class.</summary>
    [Setting("class: path of the .dll with the class.", IsPath = true)]
    public string? Assembly { get; init; }

    /// <summary>Name of a class.</summary>
    [Setting("class: full name of a public class that implements OpenWeights.Tune.Extensions.IReward; may be left out where the assembly has one alone.")]
    public string? Class { get; init; }

    /// <summary>Program and arguments.</summary>
    [Setting("command: a program and its arguments, as a list. It reads a line of JSON for each answer and writes one with its reward.")]
    public IReadOnlyList<string> Command { get; init; } = [];

    /// <summary>Seconds that an answer may take.</summary>
    [Setting("command: seconds after which an answer without a reward is not judged.", Min = 0.001)]
    public double Timeout { get; init; } = 30;

    /// <summary>Name in metrics.</summary>
    public string MetricName => Name ?? OwnClass.ShortName(Type);
}
