using System.Text.Json.Nodes;
using System.Text.Json;
using Json.Schema;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Extensions;

namespace OpenWeights.Tune.Rewards;

/// <summary>1 for an answer that is JSON of a schema; else 0. The schema is a file, or the row's.</summary>
internal sealed class JsonSchemaReward : IReward
{
    private const string Column = "schema";
    private readonly JsonSchema? _schema;
    private readonly Dictionary<string, JsonSchema> _ofRows = [];
    private readonly string _column;

    /// <summary>Reads the schema.</summary>
    /// <exception cref="InvalidDataException">The file is no schema.</exception>
    /// <exception cref="IOException">The file is missing.</exception>
    internal JsonSchemaReward(RewardSection section)
    {
        _column = section.Field ?? Column;
        if (section.Schema is { } path)
        {
            var text = File.ReadAllText(path);
            _schema = Parse(text, e => new InvalidDataException($"{path}: this is not a JSON schema: {e.Message}", e));
        }
    }

    /// <inheritdoc/>
    public IReadOnlyList<double?> Score(IReadOnlyList<JudgedAnswer> answers) => [.. answers.Select(a => (double?)(IsValid(a) ? 1 : 0))];

    private bool IsValid(JudgedAnswer answer)
    {
        var schema = _schema ?? OfRow(answer);
        try
        {
            using var given = JsonDocument.Parse(answer.Answer);
            return schema.Evaluate(given.RootElement).IsValid;
        }
        catch (JsonException)
        {
            return false;
        }
    }

    private JsonSchema OfRow(JudgedAnswer answer)
    {
        var node = answer.Row[_column] ?? throw new TrainingFailedException($"{answer.Place}: there is no column \"{_column}\" with a JSON schema; name a file with the reward's schema, or another column with its field.");
        var text = node is JsonValue value && value.TryGetValue<string>(out var written) ? written : node.ToJsonString();
        if (!_ofRows.TryGetValue(text, out var schema))
        {
            _ofRows[text] = schema = Parse(text, e => new TrainingFailedException($"{answer.Place}: \"{_column}\" is not a JSON schema: {e.Message}", e));
        }

        return schema;
    }

    private static JsonSchema Parse(string text, Func<Exception, Exception> wrong)
    {
        try
        {
            return JsonSchema.FromText(text);
        }
        catch (Exception e) when (e is JsonException or JsonSchemaException or InvalidOperationException)
        {
            throw wrong(e);
        }
    }
}
