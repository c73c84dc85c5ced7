using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Answering;
using OpenWeights.Tune.Decoding;

namespace OpenWeights.Tune.Server.Protocols.OpenAi;

/// <summary>The fields that chats and completions share, checked and in the terms of <see cref="AnswerRequest"/>.</summary>
internal static class Sampling
{
    private const int MostStops = 16;
    private const double MostBias = 100;

    // llama.cpp's word for as many as the context has room for.
    private const int NoLimit = -1;

    /// <summary>The request with the fields.</summary>
    /// <param name="request">What else there is of the request.</param>
    /// <param name="fields">The fields.</param>
    /// <param name="tokenizer">The model's tokenizer, for biases of texts.</param>
    /// <param name="topLogProbs">Number of alternatives of each token; null for no log-probabilities.</param>
    /// <param name="maxTokens">Maximum number of tokens of the answer; null for as many as the context has room for.</param>
    /// <exception cref="RequestException">A field is out of range.</exception>
    internal static AnswerRequest With(AnswerRequest request, SamplingFields fields, Tokenizer tokenizer, int? topLogProbs, int? maxTokens)
    {
        var topP = Between(fields.TopP, 0, 1, "top_p") ?? 1;
        return request with
        {
            MaxNewTokens = maxTokens,
            Stops = Stops(fields.Stop),
            IgnoresEnd = fields.IgnoreEos == true,
            TellsProgress = fields is { ReturnProgress: true, Stream: true },
            TellsTimings = fields is { TimingsPerToken: true, Stream: true },
            Format = FormatOf(fields),
            Options = new GenerationOptions
            {
                Temperature = Between(fields.Temperature, 0, 2, "temperature") ?? 1,
                TopP = Math.Max(topP, 1e-9),
                TopK = Math.Max(0, (int)(Between(fields.TopK, -1, int.MaxValue, "top_k") ?? 0)),
                MinP = Between(fields.MinP, 0, 1, "min_p") ?? 0,
                Seed = fields.Seed is { } seed and not -1 ? seed : Random.Shared.NextInt64(),
                PresencePenalty = Between(fields.PresencePenalty, -2, 2, "presence_penalty") ?? 0,
                FrequencyPenalty = Between(fields.FrequencyPenalty, -2, 2, "frequency_penalty") ?? 0,
                RepetitionPenalty = Between(fields.RepetitionPenalty ?? fields.RepeatPenalty, 0.01, 100, "repetition_penalty") ?? 1,
                LogitBias = Biases(fields.LogitBias, tokenizer),
                LogProbs = topLogProbs is not null,
                TopLogProbs = topLogProbs ?? 0,
            },
        };
    }

    /// <summary>A number within bounds.</summary>
    /// <exception cref="RequestException">It is out of range.</exception>
    internal static double? Between(double? value, double least, double most, string name) => value is { } number && !(number >= least && number <= most)
        ? throw new RequestException(string.Create(CultureInfo.InvariantCulture, $"Invalid '{name}': {number} is {(number < least ? $"less than {least}" : $"more than {most}")}."), name)
        : value;

    /// <summary>The number of choices.</summary>
    internal static int Choices(SamplingFields fields, int most) => (int)(Between(fields.N, 1, most, "n") ?? 1);

    /// <summary>The maximum number of tokens that the fields say; null for no limit.</summary>
    internal static int? Limit(SamplingFields fields) => fields.MaxTokens is { } most ? Limit(most, "max_tokens") : fields.NPredict is >= 0 and var tokens ? tokens : null;

    /// <summary>A maximum number of tokens; null for no limit.</summary>
    internal static int? Limit(int most, string name) => most == NoLimit ? null : (int)Between(most, 1, int.MaxValue, name)!;

    private static IReadOnlyList<string> Stops(JsonElement? stop)
    {
        List<string> stops = stop switch
        {
            null or { ValueKind: JsonValueKind.Null } => [],
            { ValueKind: JsonValueKind.String } text => [text.GetString()!],
            { ValueKind: JsonValueKind.Array } list when list.EnumerateArray().All(static s => s.ValueKind == JsonValueKind.String) => [.. list.EnumerateArray().Select(static s => s.GetString()!)],
            _ => throw new RequestException("Invalid type for 'stop': it must be a text or a list of texts.", "stop"),
        };
        return stops.Count > MostStops ? throw new RequestException($"Invalid 'stop': it has {stops.Count} texts, and at most {MostStops} are possible.", "stop")
            : stops.Contains("") && stop!.Value.ValueKind == JsonValueKind.Array ? throw new RequestException("Invalid 'stop': a text in it is empty.", "stop")
            : [.. stops.Where(static s => s.Length > 0)];
    }

    // {"123": -100, "word": 5} as OpenAI has it with ids, or [[123, -100], ["word", false]] as llama.cpp has it.
    private static IReadOnlyDictionary<int, float> Biases(JsonElement? biases, Tokenizer tokenizer)
    {
        var added = new Dictionary<int, float>();
        if (biases is not { ValueKind: not JsonValueKind.Null } given)
        {
            return added;
        }

        var pairs = given.ValueKind switch
        {
            JsonValueKind.Object => given.EnumerateObject().Select(static p => (p.Name, p.Value)),
            JsonValueKind.Array when given.EnumerateArray().All(static p => p.ValueKind == JsonValueKind.Array && p.GetArrayLength() == 2) =>
                given.EnumerateArray().Select(static p => (p[0].ToString(), p[1])),
            _ => throw new RequestException("Invalid type for 'logit_bias': it must be an object of token ids and numbers.", "logit_bias"),
        };
        foreach (var (name, value) in pairs)
        {
            var bias = value.ValueKind switch
            {
                JsonValueKind.Number => (double)Between(value.GetDouble(), -MostBias, MostBias, "logit_bias")!,
                JsonValueKind.False => -MostBias,
                _ => throw new RequestException($"Invalid type for 'logit_bias': the bias of {name} is not a number.", "logit_bias"),
            };
            foreach (var id in int.TryParse(name, NumberStyles.None, CultureInfo.InvariantCulture, out var token) ? [token] : tokenizer.Encode(name, addSpecialTokens: false))
            {
                // -100 is a ban, whatever the logits are.
                added[id] = bias <= -MostBias ? float.NegativeInfinity : (float)bias;
            }
        }

        return added.Keys.FirstOrDefault(id => id >= tokenizer.VocabularySize, -1) is >= 0 and var wrong
            ? throw new RequestException($"Invalid 'logit_bias': there is no token {wrong}.", "logit_bias")
            : added;
    }

    private static AnswerFormat FormatOf(SamplingFields fields)
    {
        if (fields.Grammar is { Length: > 0 } grammar)
        {
            return AnswerFormat.Gbnf(grammar);
        }

        if (fields.JsonSchema is { } plain)
        {
            return AnswerFormat.JsonSchema(Schema(plain, "json_schema"));
        }

        return fields.ResponseFormat switch
        {
            null or { Type: "text" } => AnswerFormat.Free,
            { Type: "json_object", Schema: { } schema } => AnswerFormat.JsonSchema(Schema(schema, "response_format.schema")),
            { Type: "json_object" } => AnswerFormat.JsonObject,
            { Type: "json_schema", JsonSchema.Schema: { } schema } => AnswerFormat.JsonSchema(Schema(schema, "response_format.json_schema.schema")),
            { Type: "json_schema" } => throw new RequestException("Missing required parameter: 'response_format.json_schema.schema'.", "response_format.json_schema"),
            { Type: null } => throw new RequestException("Missing required parameter: 'response_format.type'.", "response_format.type"),
            { Type: var type } => throw new RequestException($"Invalid value: '{type}'. Supported values are: 'text', 'json_object', and 'json_schema'.", "response_format.type"),
        };
    }

    private static JsonNode Schema(JsonNode schema, string name) => schema is JsonObject || schema.GetValueKind() is JsonValueKind.True or JsonValueKind.False
        ? schema
        : throw new RequestException($"Invalid type for '{name}': a schema is an object.", name);
}
