using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.Extensions.AI;

namespace OpenWeights.Tune.MicrosoftAI;

/// <summary>What this client reads of the additional properties of options: settings that Microsoft.Extensions.AI has no name for, by the server's names.</summary>
/// <param name="properties">The properties; null for none.</param>
internal sealed class MoreOptions(AdditionalPropertiesDictionary? properties)
{
    internal double? MinP => Number("min_p");

    internal double? RepetitionPenalty => Number("repetition_penalty");

    internal int? TopLogProbs => Number("top_logprobs") is not { } number ? null
        : number == (int)number ? (int)number : throw Wrong("top_logprobs", "a whole number");

    internal bool? IgnoresEnd => Value("ignore_eos") switch
    {
        null => null,
        bool given => given,
        JsonElement { ValueKind: JsonValueKind.True or JsonValueKind.False } given => given.GetBoolean(),
        _ => throw Wrong("ignore_eos", "true or false"),
    };

    internal JsonObject? TemplateValues => Value("chat_template_kwargs") is not { } given ? null
        : JsonSerializer.SerializeToNode(given, AIJsonUtilities.DefaultOptions.GetTypeInfo(given.GetType())) as JsonObject ?? throw Wrong("chat_template_kwargs", "an object");

    /// <summary>0.7f is meant as 0.7, not as the double that is nearest to it.</summary>
    internal static double AsWritten(float value) => double.Parse(value.ToString(CultureInfo.InvariantCulture), CultureInfo.InvariantCulture);

    private double? Number(string name) => Value(name) switch
    {
        null => null,
        JsonElement { ValueKind: JsonValueKind.Number } given => given.GetDouble(),
        float given => AsWritten(given),
        IConvertible given and not (string or bool or char or DateTime) => given.ToDouble(CultureInfo.InvariantCulture),
        _ => throw Wrong(name, "a number"),
    };

    private object? Value(string name) => properties?.GetValueOrDefault(name);

    private ArgumentException Wrong(string name, string wanted) => new($"AdditionalProperties: {name} is {Value(name)}; it must be {wanted}.");
}
