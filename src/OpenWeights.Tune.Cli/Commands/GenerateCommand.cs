using System.CommandLine;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Generation;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>owt generate.</summary>
internal static class GenerateCommand
{
    private static readonly Option<string> s_model = CommonOptions.Model();
    private static readonly Option<string[]> s_adapter = CommonOptions.Adapters();
    private static readonly Option<string?> s_quantization = CommonOptions.Quantization();
    private static readonly Option<string?> s_prompt = new("--prompt") { Description = "The text to go on from.", HelpName = "TEXT" };
    private static readonly Option<string?> s_messages = new("--messages") { Description = "A JSON file with a list of messages, put through the model's chat template.", HelpName = "FILE" };
    private static readonly Option<int> s_maxNewTokens = CommonOptions.Number("--max-new-tokens", "The most tokens to generate.", 128, 1);
    private static readonly Option<double> s_temperature = CommonOptions.Number("--temperature", "0 always takes the likeliest token.", 0.0, 0.0);
    private static readonly Option<double> s_topP = CommonOptions.Number("--top-p", "Draw only from the likeliest tokens that together have this probability.", 1.0, 1e-9, 1.0);
    private static readonly Option<int> s_topK = CommonOptions.Number("--top-k", "Draw only from this many of the likeliest tokens; 0 for all.", 0, 0);
    private static readonly Option<long> s_seed = new("--seed") { Description = "The seed of what is drawn.", DefaultValueFactory = static _ => 42 };
    private static readonly Option<string[]> s_stop = new("--stop") { Description = "A text that ends the answer; may be given several times.", HelpName = "TEXT" };
    private static readonly Option<bool> s_json = CommonOptions.Json();
    private static readonly Option<string> s_device = CommonOptions.Device();
    private static readonly Option<string> s_dtype = CommonOptions.DType();

    internal static Command Create()
    {
        var command = new Command("generate", "Continues a text, or answers messages.")
        {
            s_model, s_adapter, s_prompt, s_messages, s_maxNewTokens, s_temperature, s_topP, s_topK, s_seed, s_stop, s_json, s_device, s_dtype, s_quantization,
        };
        command.Validators.Add(static result =>
        {
            if (result.GetValue(s_prompt) is null == result.GetValue(s_messages) is null)
            {
                result.AddError("give one of --prompt and --messages.");
            }
        });
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        using var session = new ModelSession(arguments.GetValue(s_model)!, arguments.GetValue(s_adapter) ?? [], arguments.GetValue(s_dtype)!, arguments.GetValue(s_device)!, arguments.GetValue(s_quantization));
        var prompt = Prompt(arguments, session);
        var json = arguments.GetValue(s_json);
        var stops = new StopTexts(arguments.GetValue(s_stop) ?? [], json ? null : Console.Out);
        var decoder = session.Tokenizer.CreateStreamingDecoder(skipSpecialTokens: true);
        var generator = new TextGenerator(session.Model, new GenerationOptions
        {
            MaxNewTokens = arguments.GetValue(s_maxNewTokens),
            Temperature = arguments.GetValue(s_temperature),
            TopP = arguments.GetValue(s_topP),
            TopK = arguments.GetValue(s_topK),
            Seed = arguments.GetValue(s_seed),
            EndTokens = EndTokens.Of(session.Loaded.Folder, session.Tokenizer),
        });
        var generated = generator.Continue([prompt], (_, token) => stops.Add(decoder.Add(token)), Signals.Stop)[0];
        stops.Finish(decoder.Finish());
        if (json)
        {
            JsonLines.Write(new { input_ids = prompt, output_ids = generated.OutputIds, text = stops.Text, finish_reason = stops.Found ? "stop" : generated.FinishReason });
        }
        else
        {
            Console.Out.WriteLine();
        }

        return ExitCode.Success;
    }

    private static int[] Prompt(ParseResult arguments, ModelSession session)
    {
        if (arguments.GetValue(s_prompt) is { } text)
        {
            var ids = session.Tokenizer.Encode(text, addSpecialTokens: true);
            return ids.Length > 0 && ids[^1] == session.Tokenizer.EosToken ? ids[..^1] : ids;
        }

        var path = arguments.GetValue(s_messages)!;
        if (!File.Exists(path))
        {
            throw new FileNotFoundException($"{path}: there is no such file.", path);
        }

        var messages = JsonNode.Parse(File.ReadAllText(path)) as JsonArray ?? throw new InvalidDataException($"{path}: a JSON list of messages is wanted, such as [{{\"role\": \"user\", \"content\": \"Hello\"}}].");
        return session.Tokenizer.ChatTemplateText is null
            ? throw new InvalidDataException($"{session.Loaded.Folder.FolderPath} has no chat template; use --prompt.")
            : session.Tokenizer.Encode(new ChatRenderer(session.Tokenizer).Render(messages, tools: null, addGenerationPrompt: true), addSpecialTokens: false);
    }
}
