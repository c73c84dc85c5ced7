using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Tokenizers;
using OpenWeights.Tokenizers.Templates;

namespace OpenWeights.Tune.Configuration;

/// <summary>Built-in chat templates, for models without one or to be trained with another.</summary>
internal static class NamedTemplates
{
    private const string ChatMl = """
        {% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
        """;

    private const string Llama3 = """
        {{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}
        """;

    private const string Gemma = """
        {{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set start = messages[0]['content'] | trim + '\n\n' %}{% set rest = messages[1:] %}{% else %}{% set start = '' %}{% set rest = messages %}{% endif %}{% for message in rest %}{% if message['role'] not in ['user', 'assistant'] %}{{ raise_exception('this template knows the roles user and assistant, and one system message first') }}{% endif %}{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\n' + (start if loop.first else '') + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}
        """;

    private const string Mistral = """
        {{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set start = messages[0]['content'] + '\n\n' %}{% set rest = messages[1:] %}{% else %}{% set start = '' %}{% set rest = messages %}{% endif %}{% for message in rest %}{% if message['role'] == 'user' %}{{ '[INST] ' + (start if loop.first else '') + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] | trim + eos_token }}{% else %}{{ raise_exception('this template knows the roles user and assistant, and one system message first') }}{% endif %}{% endfor %}
        """;

    private const string Phi3 = """
        {% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}
        """;

    private const string Zephyr = """
        {% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}
        """;

    private const string Alpaca = """
        {% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}{% elif message['role'] == 'user' %}{{ '### Instruction:\n' + message['content'] + '\n\n' }}{% elif message['role'] == 'assistant' %}{{ '### Response:\n' + message['content'] + eos_token + '\n\n' }}{% else %}{{ raise_exception('this template knows the roles system, user and assistant') }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}
        """;

    /// <summary>The templates by name.</summary>
    public static IReadOnlyDictionary<string, string> All { get; } = new Dictionary<string, string>
    {
        ["chatml"] = ChatMl,
        ["llama3"] = Llama3,
        ["gemma"] = Gemma,
        ["mistral"] = Mistral,
        ["phi3"] = Phi3,
        ["zephyr"] = Zephyr,
        ["alpaca"] = Alpaca,
    };

    /// <summary>
    /// The chat template that a run sets in place of the model's own: model.chat_template, with the values of data.chat_template_kwargs
    /// written into it; null for the model's own.
    /// </summary>
    /// <param name="config">The run.</param>
    /// <param name="modelFolder">The model's folder; config.Model.Path may be only a name.</param>
    /// <exception cref="InvalidDataException">The template does not exist.</exception>
    public static string? Of(RunConfig config, string modelFolder)
    {
        ArgumentNullException.ThrowIfNull(config);
        return WithValues(
            config.Model.ChatTemplate is { } name ? Find(name, modelFolder) : null, modelFolder, JsonSerializer.SerializeToNode(config.Data.ChatTemplateKwargs)!.AsObject());
    }

    /// <summary>What messages call that template: the file, or the name, that model.chat_template gives, or the model's folder.</summary>
    /// <param name="config">The run.</param>
    /// <param name="modelFolder">The model's folder.</param>
    public static string NameOf(RunConfig config, string modelFolder) => config.Model.ChatTemplate is not { } wanted
        ? $"the chat template of {modelFolder}"
        : All.ContainsKey(wanted) || !File.Exists(wanted) ? $"the chat template {wanted}" : wanted;

    /// <summary>Writes values for a chat template's variables into it: see <see cref="ChatTemplateDefaults"/>.</summary>
    /// <param name="template">The template; null for the model's own.</param>
    /// <param name="modelFolder">The model's folder.</param>
    /// <param name="values">The values by variable name; if empty, the template is returned unchanged.</param>
    /// <exception cref="InvalidDataException">The model has no template.</exception>
    public static string? WithValues(string? template, string modelFolder, JsonObject values)
    {
        ArgumentNullException.ThrowIfNull(values);
        return values.Count == 0 ? template : ChatTemplateDefaults.Set(template ?? Own(modelFolder), values);
    }

    private static string Own(string modelFolder)
    {
        var files = ChatTemplateFiles.Load(modelFolder);
        return files.TextFor(withTools: false) is { } plain
            ? ChatTemplateDefaults.Join(plain, files.TextFor(withTools: true)!)
            : throw new InvalidDataException($"{modelFolder} has no chat template for chat_template_kwargs to apply to.");
    }

    /// <summary>Text of the template that a config names.</summary>
    /// <param name="wanted">A built-in name, the name of one of the model's own templates, or a file.</param>
    /// <param name="modelFolder">The model's folder.</param>
    /// <exception cref="ConfigException">The template does not exist.</exception>
    public static string Find(string wanted, string modelFolder)
    {
        ArgumentNullException.ThrowIfNull(wanted);
        return Text(wanted, modelFolder, out var own) ?? throw new ConfigException([new ConfigProblem("", "model.chat_template", NotThere(wanted, own))]);
    }

    /// <summary>Error message for a template that does not exist, with the closest name; null if it exists.</summary>
    /// <param name="wanted">A built-in name, the name of one of the model's own templates, or a file.</param>
    /// <param name="modelFolder">The model's folder.</param>
    internal static string? Problem(string wanted, string modelFolder) => Text(wanted, modelFolder, out var own) is null ? NotThere(wanted, own) : null;

    private static string? Text(string wanted, string modelFolder, out IReadOnlyDictionary<string, string> own)
    {
        own = new Dictionary<string, string>();
        if (All.TryGetValue(wanted, out var named))
        {
            return named;
        }

        if (File.Exists(wanted))
        {
            return File.ReadAllText(wanted);
        }

        own = Tokenizer.IsIn(modelFolder) ? Tokenizer.Load(modelFolder).ChatTemplates : own;
        return own.GetValueOrDefault(wanted);
    }

    private static string NotThere(string wanted, IReadOnlyDictionary<string, string> own) =>
        $"unknown template '{wanted}'; give a file, {string.Join(", ", All.Keys)}{(own.Count > 0 ? $", or one of the model's own: {string.Join(", ", own.Keys)}" : "")}.{Spelling.DidYouMean(wanted, All.Keys.Concat(own.Keys))}";
}
