using System.CommandLine;
using System.Diagnostics;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>The command owt generate.</summary>
internal static class GenerateCommand
{
    private static readonly ModelOptions s_model = new();
    private static readonly Option<string[]> s_message = new("--message") { Description = "A user message to answer, using the model's chat template; - reads it from stdin. Several are answered independently, as a batch.", HelpName = "TEXT" };
    private static readonly Option<string?> s_system = new("--system") { Description = "System message before each --message.", HelpName = "TEXT" };
    private static readonly Option<string?> s_messages = new("--messages") { Description = "A conversation to answer: a JSON list of messages, using the model's chat template; - reads it from stdin.", HelpName = "FILE" };
    private static readonly Option<string[]> s_prompt = new("--prompt") { Description = "A text to continue, without the chat template; - reads it from stdin. Several are continued as a batch.", HelpName = "TEXT" };
    private static readonly SamplingOptions s_sampling = new(128, 0);
    private static readonly Option<bool> s_json = CommonOptions.Json();

    internal static Command Create()
    {
        var command = new Command("generate", "Answers messages, or continues texts.");
        s_model.AddTo(command, s_message, s_system, s_messages, s_prompt, s_json);
        s_sampling.AddTo(command);
        command.Validators.Add(static result =>
        {
            var given = new[] { result.GetValue(s_message) is { Length: > 0 }, result.GetValue(s_messages) is not null, result.GetValue(s_prompt) is { Length: > 0 } };
            if (given.Count(static g => g) != 1)
            {
                result.AddError("give one of --message, --messages and --prompt.");
            }
            else if (!given[0] && result.GetValue(s_system) is not null)
            {
                result.AddError($"--system requires --message; {(given[1] ? "put a system message for --messages first in its list" : "--prompt uses no messages")}.");
            }
        });
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        using var session = s_model.Open(arguments);
        var prompts = Prompts(arguments, session);
        var json = arguments.GetValue(s_json);

        // With several texts only one could be streamed, so all are printed at the end.
        var live = !json && prompts.Count == 1;
        var answers = prompts.Select(p => new AnswerStream(session.Tokenizer, p.Reader, s_sampling.Stops(arguments), live ? Console.Out : null, s_sampling.ShowsReasoning(arguments))).ToList();
        var generator = new TextGenerator(session.Model, s_sampling.Read(arguments, EndTokens.Of(session.Loaded.Folder, session.Tokenizer)));
        var started = Stopwatch.GetTimestamp();
        var generated = generator.Continue([.. prompts.Select(static p => p.Ids)], (i, token) => answers[i].Add(token), stop: Signals.Stop);
        var seconds = Stopwatch.GetElapsedTime(started).TotalSeconds;
        for (var i = 0; i < prompts.Count; i++)
        {
            answers[i].Finish();
            if (json)
            {
                JsonLines.Write(new { input_ids = prompts[i].Ids, output_ids = generated[i].OutputIds, reasoning = answers[i].Reasoning, text = answers[i].Text, finish_reason = answers[i].Found ? "stop" : generated[i].FinishReason });
            }
            else
            {
                Console.Out.WriteLine(live ? "" : answers[i].Printed);
            }
        }

        if (!generated.All(static g => g.IsFinite))
        {
            ModelSession.Warn(ModelSession.NotFinite);
        }

        if (generated.Any(static g => g.IsFull))
        {
            var room = ContextLimit.Of(session.Model.Config);
            Console.Error.WriteLine($"warning: a text was cut off at the model's context of {room.Tokens} tokens, including the prompt ({room.Reason}).");
        }

        if (arguments.GetValue(s_prompt) is { Length: > 0 } && session.Tokenizer.ChatTemplateText is not null && answers.Exists(static a => a.Text.Length == 0))
        {
            Console.Error.WriteLine("warning: the model ended a text immediately. --prompt does not use its chat template; use --message TEXT or `owt chat`.");
        }

        if (answers.Exists(static a => a.IsCutOff))
        {
            Console.Error.WriteLine("warning: a text ended before its reasoning did, so it has no answer; --max-new-tokens allows more.");
        }

        var tokens = generated.Sum(static g => g.OutputIds.Count);
        Console.Error.WriteLine($"{Amount.Count(tokens)} token{(tokens == 1 ? "" : "s")} in {Amount.Number(seconds, "F1")} s, {Amount.Number(tokens / Math.Max(seconds, 1e-9), "F1")} tokens/s");
        return ExitCode.Success;
    }

    private static List<(int[] Ids, AnswerReader? Reader)> Prompts(ParseResult arguments, ModelSession session)
    {
        if (arguments.GetValue(s_prompt) is { Length: > 0 } texts)
        {
            List<(int[] Ids, AnswerReader? Reader)> prompts = [.. texts.Select(text => (session.Tokenizer.EncodePrompt(InputText.Of(text)), (AnswerReader?)null))];
            return prompts.TrueForAll(static p => p.Ids.Length > 0) ? prompts
                : throw new ConfigException([new ConfigProblem("command line", "--prompt", "a text is empty, and this model puts no token before it to go on from.")]);
        }

        if (session.Tokenizer.ChatTemplateText is null)
        {
            throw new InvalidDataException($"{session.Loaded.Folder.FolderPath} has no chat template, which messages need; use --prompt to continue a text.");
        }

        var renderer = new ChatRenderer(session.Tokenizer);
        return [.. Chats(arguments).Select(chat => renderer.Render(chat, tools: null, addGenerationPrompt: true))
            .Select(text => (session.Tokenizer.Encode(text, addSpecialTokens: false), (AnswerReader?)new AnswerReader(renderer.Reasoning, text)))];
    }

    private static IEnumerable<JsonArray> Chats(ParseResult arguments) => arguments.GetValue(s_messages) is { } path
        ? [JsonFile.ReadMessages(path)]
        : arguments.GetValue(s_message)!.Select(text => Chat(arguments.GetValue(s_system), InputText.Of(text)));

    private static JsonArray Chat(string? system, string question)
    {
        static JsonObject Message(string role, string content) => new() { ["role"] = role, ["content"] = content };
        return system is null ? [Message("user", question)] : [Message("system", system), Message("user", question)];
    }
}
