using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Tokenizers.Templates;
using OpenWeights.Tune.Cli.Output;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>The command owt render.</summary>
internal static class RenderCommand
{
    private static readonly Option<string?> s_tokenizer = CommonOptions.Tokenizer();
    private static readonly Option<string?> s_template = new("--template") { Description = "A file with a chat template.", HelpName = "FILE.jinja" };
    private static readonly Option<string> s_input = new("--input") { Description = "A JSON list of cases, or one on each line: {\"name\", \"messages\", \"tools\", \"documents\", \"add_generation_prompt\", ...}; - reads it from stdin. Other keys, such as \"enable_thinking\" or \"bos_token\", are variables of the template, also inside \"kwargs\".", HelpName = "FILE", Required = true };
    private static readonly Option<string?> s_values = ModelOptions.ChatTemplateKwargs();
    private static readonly Option<string?> s_now = new("--now") { Description = "Time returned by strftime_now in templates, such as 2026-01-31T12:00:00.", HelpName = "ISO" };
    private static readonly Option<string?> s_bos = new("--bos") { Description = "The BOS token.", HelpName = "T" };
    private static readonly Option<string?> s_eos = new("--eos") { Description = "The EOS token.", HelpName = "T" };

    private static readonly string[] s_own = ["name", "messages", "tools", "documents", "add_generation_prompt"];
    private static readonly string[] s_kwargs = ["kwargs", "chat_template_kwargs"];

    private static readonly Option<bool> s_json = CommonOptions.JsonAnyway();

    internal static Command Create()
    {
        var command = new Command("render", "Renders messages with a chat template.") { s_tokenizer, s_template, s_input, s_values, s_now, s_bos, s_eos, s_json };
        command.Validators.Add(static result =>
        {
            if (result.GetValue(s_tokenizer) is null == result.GetValue(s_template) is null)
            {
                result.AddError("give one of --model and --template.");
            }

            if (result.GetValue(s_now) is { } now && !DateTimeOffset.TryParse(now, CultureInfo.InvariantCulture, DateTimeStyles.AssumeLocal, out _))
            {
                result.AddError($"--now '{now}' is not a time; write it as 2026-01-31T12:00:00.");
            }
        });
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        var source = Source(arguments);
        var cases = JsonFile.ReadList(arguments.GetValue(s_input)!, static item => item is JsonObject o && o["messages"] is JsonArray, "a JSON list of cases, {\"messages\": [...]},");
        var now = arguments.GetValue(s_now) is { } time ? DateTimeOffset.Parse(time, CultureInfo.InvariantCulture, DateTimeStyles.AssumeLocal) : (DateTimeOffset?)null;
        var values = ModelOptions.Values(arguments.GetValue(s_values));
        var templates = new Dictionary<string, ChatTemplate>();
        ChatTemplateException? malformed = null;
        foreach (var one in cases.Select(static c => c.AsObject()))
        {
            var name = one["name"]?.ToString();
            var text = source.TextFor(one["tools"] is not null);
            try
            {
                if (!templates.TryGetValue(text, out var template))
                {
                    templates.Add(text, template = ChatTemplate.Parse(text, source.Name));
                }

                JsonLines.Write(new { name, rendered = template.Render(Input(one, source.SpecialTokens, values, now)) });
            }
            catch (ChatTemplateException e)
            {
                malformed = e.Kind == ChatTemplateErrorKind.Syntax ? e : malformed;
                JsonLines.Write(new { name, error = e.Reason });
            }
        }

        return malformed is null ? ExitCode.Success : throw malformed;
    }

    private static ChatTemplateInput Input(JsonObject one, IReadOnlyDictionary<string, string> specials, JsonObject values, DateTimeOffset? now) => new()
    {
        Messages = one["messages"]!.AsArray(),
        Tools = one["tools"],
        Documents = one["documents"],
        AddGenerationPrompt = one["add_generation_prompt"] is { } prompt && prompt.GetValueKind() == JsonValueKind.True,
        SpecialTokens = specials,
        Variables = Variables(one, values),
        Now = now,
    };

    /// <summary>The variables of all cases, of one case, and in its <c>kwargs</c> (transformers' <c>chat_template_kwargs</c>).</summary>
    private static JsonObject Variables(JsonObject one, JsonObject values)
    {
        var variables = new JsonObject();
        var own = one.Where(static p => !s_own.Contains(p.Key) && !s_kwargs.Contains(p.Key));
        var kwargs = s_kwargs.Select(key => one[key]).OfType<JsonObject>().SelectMany(static o => o);
        foreach (var (name, value) in values.Concat(own).Concat(kwargs))
        {
            variables[name] = value?.DeepClone();
        }

        return variables;
    }

    private static TemplateSource Source(ParseResult arguments)
    {
        var source = arguments.GetValue(s_template) is { } file ? OfFile(file) : OfTokenizer(arguments.GetValue(s_tokenizer)!);
        foreach (var (name, option) in new[] { ("bos_token", s_bos), ("eos_token", s_eos) })
        {
            if (arguments.GetValue(option) is { } token)
            {
                source.SpecialTokens[name] = token;
            }
        }

        return source;
    }

    private static TemplateSource OfFile(string file)
    {
        var text = File.Exists(file) ? File.ReadAllText(file) : throw new FileNotFoundException($"{file}: no such file.", file);
        return new TemplateSource(file, [], _ => text);
    }

    private static TemplateSource OfTokenizer(string path)
    {
        var (folder, ofRun) = ModelSession.FindTokenizer(path);
        var files = ChatTemplateFiles.Load(folder);
        return new TemplateSource(
            path,
            new Dictionary<string, string>(files.SpecialTokens),
            withTools => ofRun ?? files.TextFor(withTools) ?? throw new InvalidDataException($"{path} has no chat template."));
    }

    private sealed record TemplateSource(string Name, Dictionary<string, string> SpecialTokens, Func<bool, string> TextFor);
}
