using System.CommandLine;
using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Tokenizers.Templates;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>Options of commands that load a model and its adapters.</summary>
/// <param name="isExact">Whether results should be exact: --dtype auto is then float64 where that is possible.</param>
internal sealed class ModelOptions(bool isExact = false)
{
    private readonly Option<string> _model = CommonOptions.Model();
    private readonly Option<string[]> _adapter = CommonOptions.Adapters();
    private readonly Option<bool> _anyBase = CommonOptions.AnyBase();
    private readonly Option<string?> _quantization = CommonOptions.Quantization();
    private readonly Option<string> _device = CommonOptions.Device(isOne: false);
    private readonly Option<string> _dtype = isExact ? CommonOptions.ExactDType() : CommonOptions.DType();
    private readonly Option<string?> _templateValues = ChatTemplateKwargs();

    /// <summary>Variables for the chat template.</summary>
    internal static Option<string?> ChatTemplateKwargs()
    {
        var option = new Option<string?>("--chat-template-kwargs") { Description = "Variables for the chat template, such as {\"enable_thinking\": false}; they override those that a run was trained with.", HelpName = "JSON" };
        option.Validators.Add(static result =>
        {
            try
            {
                foreach (var problem in Values(result.GetValueOrDefault<string?>()).Select(static v => ChatTemplateDefaults.Problem(v.Key)).OfType<string>())
                {
                    result.AddError($"--chat-template-kwargs: {problem}");
                }
            }
            catch (Exception e) when (e is JsonException or InvalidOperationException)
            {
                result.AddError("--chat-template-kwargs must be a JSON object, such as {\"enable_thinking\": false}.");
            }
        });
        return option;
    }

    /// <summary>The value of <see cref="ChatTemplateKwargs"/>.</summary>
    internal static JsonObject Values(string? json) => json is null ? [] : JsonNode.Parse(json)?.AsObject() ?? throw new JsonException("null");

    /// <summary>Adds the options to a command, with its own after the model and adapters.</summary>
    internal void AddTo(Command command, params Option[] own)
    {
        Option[] all = [_model, _adapter, .. own, _templateValues, _device, _dtype, _quantization, _anyBase];
        Array.ForEach(all, command.Options.Add);
    }

    internal ModelSession Open(ParseResult arguments) => new(
        arguments.GetValue(_model)!, arguments.GetValue(_adapter) ?? [], arguments.GetValue(_dtype)!, arguments.GetValue(_device)!, arguments.GetValue(_quantization),
        arguments.GetValue(_anyBase), Values(arguments.GetValue(_templateValues)), isExact);
}
