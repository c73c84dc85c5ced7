using System.CommandLine;
using System.Diagnostics;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Generation;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>owt generate.</summary>
internal static class GenerateCommand
{
    private static readonly Option<string> s_model = CommonOptions.Model();
    private static readonly Option<string[]> s_adapter = CommonOptions.Adapters();
    private static readonly Option<bool> s_anyBase = CommonOptions.AnyBase();
    private static readonly Option<string?> s_quantization = CommonOptions.Quantization();
    private static readonly Option<string[]> s_prompt = new("--prompt") { Description = "The text to go on from, as it is, without the chat template; several are continued side by side.", HelpName = "TEXT" };
    private static readonly Option<string?> s_messages = new("--messages") { Description = "A JSON file with a list of messages, put through the model's chat template.", HelpName = "FILE" };
    private static readonly SamplingOptions s_sampling = new(128, 0);
    private static readonly Option<bool> s_json = CommonOptions.Json();
    private static readonly Option<string> s_device = CommonOptions.Device();
    private static readonly Option<string> s_dtype = CommonOptions.DType();

    internal static Command Create()
    {
        var command = new Command("generate", "Continues texts, or answers messages.") { s_model, s_adapter, s_prompt, s_messages, s_json, s_device, s_dtype, s_quantization, s_anyBase };
        s_sampling.AddTo(command);
        command.Validators.Add(static result =>
        {
            if (result.GetValue(s_prompt) is null or [] == result.GetValue(s_messages) is null)
            {
                result.AddError("give one of --prompt and --messages.");
            }
        });
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        using var session = new ModelSession(arguments.GetValue(s_model)!, arguments.GetValue(s_adapter) ?? [], arguments.GetValue(s_dtype)!, arguments.GetValue(s_device)!, arguments.GetValue(s_quantization), arguments.GetValue(s_anyBase));
        var prompts = Prompts(arguments, session);
        var json = arguments.GetValue(s_json);

        // Of several texts at a time only the first could be shown as it comes, so all are shown at the end.
        var live = !json && prompts.Count == 1;
        var stops = prompts.Select(_ => new StopTexts(s_sampling.Stops(arguments), live ? Console.Out : null)).ToList();
        var decoders = prompts.Select(_ => session.Tokenizer.CreateStreamingDecoder(skipSpecialTokens: true)).ToList();
        var generator = new TextGenerator(session.Model, s_sampling.Read(arguments, EndTokens.Of(session.Loaded.Folder, session.Tokenizer)));
        var started = Stopwatch.GetTimestamp();
        var generated = generator.Continue(prompts, (i, token) => stops[i].Add(decoders[i].Add(token)), Signals.Stop);
        var seconds = Stopwatch.GetElapsedTime(started).TotalSeconds;
        for (var i = 0; i < prompts.Count; i++)
        {
            stops[i].Finish(decoders[i].Finish());
            if (json)
            {
                JsonLines.Write(new { input_ids = prompts[i], output_ids = generated[i].OutputIds, text = stops[i].Text, finish_reason = stops[i].Found ? "stop" : generated[i].FinishReason });
            }
            else
            {
                Console.Out.WriteLine(live ? "" : stops[i].Text);
            }
        }

        if (generated.Any(static g => g.IsFull))
        {
            var room = ModelRoom.Of(session.Model.Config);
            Console.Error.WriteLine($"warning: a text ended because the model has room for {room.Tokens} tokens with the prompt ({room.Because}).");
        }

        if (arguments.GetValue(s_prompt) is { Length: > 0 } && session.Tokenizer.ChatTemplateText is not null && stops.Exists(static s => s.Text.Length == 0))
        {
            Console.Error.WriteLine("warning: the model ended a text at once. It has a chat template, which --prompt leaves out: --messages FILE and `owt chat` put what is said through it.");
        }

        var tokens = generated.Sum(static g => g.OutputIds.Count);
        Console.Error.WriteLine($"{Amount.Count(tokens)} token{(tokens == 1 ? "" : "s")} in {Amount.Number(seconds, "F1")} s, {Amount.Number(tokens / Math.Max(seconds, 1e-9), "F1")} tokens/s");
        return ExitCode.Success;
    }

    private static List<int[]> Prompts(ParseResult arguments, ModelSession session)
    {
        if (arguments.GetValue(s_prompt) is { Length: > 0 } texts)
        {
            return [.. texts.Select(text => session.Tokenizer.EncodePrompt(text))];
        }

        var path = arguments.GetValue(s_messages)!;
        var messages = new JsonArray([.. JsonFile.ReadList(path, static item => item is JsonObject, "a JSON list of messages, such as [{\"role\": \"user\", \"content\": \"Hello\"}],").Select(static m => m.DeepClone())]);
        return session.Tokenizer.ChatTemplateText is null
            ? throw new InvalidDataException($"{session.Loaded.Folder.FolderPath} has no chat template; use --prompt.")
            : [session.Tokenizer.Encode(new ChatRenderer(session.Tokenizer).Render(messages, tools: null, addGenerationPrompt: true), addSpecialTokens: false)];
    }
}
