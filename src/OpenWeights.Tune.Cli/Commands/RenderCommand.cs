using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Tokenizers;
using OpenWeights.Tokenizers.Templates;
using OpenWeights.Tune.Cli.Output;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>owt render.</summary>
internal static class RenderCommand
{
    private static readonly Option<string?> s_tokenizer = new("--tokenizer") { Description = "The folder or file whose chat template is used.", HelpName = "DIR_OR_FILE" };
    private static readonly Option<string?> s_template = new("--template") { Description = "A file with a chat template.", HelpName = "FILE.jinja" };
    private static readonly Option<string> s_input = new("--input") { Description = "A JSON list of cases: {\"name\", \"messages\", \"tools\", \"add_generation_prompt\", ...}.", HelpName = "CASES.json", Required = true };
    private static readonly Option<string?> s_now = new("--now") { Description = "The time that templates are told, such as 2026-01-31T12:00:00.", HelpName = "ISO" };
    private static readonly Option<string?> s_bos = new("--bos") { Description = "The token that begins a text.", HelpName = "T" };
    private static readonly Option<string?> s_eos = new("--eos") { Description = "The token that ends a text.", HelpName = "T" };

    internal static Command Create()
    {
        var command = new Command("render", "Puts messages through a chat template.") { s_tokenizer, s_template, s_input, s_now, s_bos, s_eos };
        command.Validators.Add(static result =>
        {
            if (result.GetValue(s_tokenizer) is null == result.GetValue(s_template) is null)
            {
                result.AddError("give one of --tokenizer and --template.");
            }

            if (result.GetValue(s_now) is { } now && !DateTimeOffset.TryParse(now, CultureInfo.InvariantCulture, DateTimeStyles.AssumeLocal, out _))
            {
                result.AddError($"--now '{now}' is no time; write it as 2026-01-31T12:00:00.");
            }
        });
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        var specials = new Dictionary<string, string>();
        var template = Template(arguments, specials);
        foreach (var (name, option) in new[] { ("bos_token", s_bos), ("eos_token", s_eos) })
        {
            if (arguments.GetValue(option) is { } token)
            {
                specials[name] = token;
            }
        }

        foreach (var one in Cases(arguments.GetValue(s_input)!))
        {
            Render(template, one, specials, arguments.GetValue(s_now));
        }

        return ExitCode.Success;
    }

    private static void Render(ChatTemplate template, JsonObject one, IReadOnlyDictionary<string, string> specials, string? now)
    {
        string[] own = ["name", "messages", "tools", "documents", "add_generation_prompt"];
        var name = one["name"]?.ToString();
        try
        {
            var rendered = template.Render(new ChatTemplateInput
            {
                Messages = one["messages"] as JsonArray ?? [],
                Tools = one["tools"],
                Documents = one["documents"],
                AddGenerationPrompt = one["add_generation_prompt"]?.GetValue<bool>() ?? false,
                SpecialTokens = specials,
                Variables = new JsonObject(one.Where(p => !own.Contains(p.Key)).Select(static p => KeyValuePair.Create(p.Key, p.Value?.DeepClone()))),
                Now = now is null ? null : DateTimeOffset.Parse(now, CultureInfo.InvariantCulture, DateTimeStyles.AssumeLocal),
            });
            JsonLines.Write(new { name, rendered });
        }
        catch (ChatTemplateException e)
        {
            JsonLines.Write(new { name, error = e.Reason });
        }
    }

    private static ChatTemplate Template(ParseResult arguments, Dictionary<string, string> specials)
    {
        if (arguments.GetValue(s_template) is { } file)
        {
            return File.Exists(file) ? ChatTemplate.Parse(File.ReadAllText(file), file) : throw new FileNotFoundException($"{file}: there is no such file.", file);
        }

        var folder = arguments.GetValue(s_tokenizer)!;
        var tokenizer = Tokenizer.Load(folder);
        foreach (var (name, token) in tokenizer.SpecialTokens)
        {
            specials[name] = token;
        }

        return ChatTemplate.Parse(tokenizer.ChatTemplateText ?? throw new InvalidDataException($"{folder} has no chat template."), folder);
    }

    private static IEnumerable<JsonObject> Cases(string path)
    {
        if (!File.Exists(path))
        {
            throw new FileNotFoundException($"{path}: there is no such file.", path);
        }

        try
        {
            return JsonNode.Parse(File.ReadAllText(path)) is JsonArray cases && cases.All(static c => c is JsonObject)
                ? cases.Select(static c => c!.AsObject())
                : throw new InvalidDataException($"{path}: a JSON list of cases is wanted, such as [{{\"messages\": [...]}}].");
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"{path}: this is no valid JSON: {e.Message}", e);
        }
    }
}
