using System.CommandLine;
using System.Diagnostics;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Evaluation;
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
    private static readonly Option<string?> s_input = new("--input") { Description = "Rows to answer: chats, instructions or prompts, as JSON lines, a JSON array, CSV or Parquet. Requires --output.", HelpName = "FILE" };
    private static readonly Option<string?> s_output = new("--output") { Description = "File for the answers to --input, as JSON lines.", HelpName = "FILE" };
    private static readonly Option<bool> s_resume = new("--resume") { Description = "Continue an --output that was begun with the same rows and settings." };
    private static readonly Option<int> s_batch = CommonOptions.Number("--batch-size", "Number of rows of --input that are answered at once.", 8, 1);
    private static readonly DataOptions s_rows = new();
    private static readonly SamplingOptions s_sampling = new(128, 0);
    private static readonly Option<bool> s_json = CommonOptions.Json();

    internal static Command Create()
    {
        var command = new Command("generate", "Answers messages, or continues texts.");
        s_model.AddTo(command, [s_message, s_system, s_messages, s_prompt, s_input, s_output, s_resume, s_batch, .. s_rows.All, s_json]);
        s_sampling.AddTo(command);
        command.Validators.Add(static result =>
        {
            var given = new[] { result.GetValue(s_message) is { Length: > 0 }, result.GetValue(s_messages) is not null, result.GetValue(s_prompt) is { Length: > 0 }, result.GetValue(s_input) is not null };
            if (given.Count(static g => g) != 1)
            {
                result.AddError("give one of --message, --messages, --prompt and --input.");
            }
            else if (given[3] != result.GetValue(s_output) is not null)
            {
                result.AddError("--input and --output require each other.");
            }
            else if (!given[0] && result.GetValue(s_system) is not null)
            {
                result.AddError($"--system requires --message; {(given[1] ? "put a system message for --messages first in its list" : given[3] ? "a row of --input has its own" : "--prompt uses no messages")}.");
            }
        });
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        if (arguments.GetValue(s_input) is { } input)
        {
            return Answer(arguments, input);
        }

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

    private static int Answer(ParseResult arguments, string input)
    {
        var output = arguments.GetValue(s_resume) ? Path.GetFullPath(arguments.GetValue(s_output)!) : CommonOptions.NewOutput(arguments.GetValue(s_output)!);
        using var session = s_model.Open(arguments);
        var rows = new FileAnswers(s_rows.Read(arguments, input), new RowTokenizer(session.Loaded.Folder.FolderPath, "assistant", session.ChatTemplate));
        var options = s_sampling.Read(arguments, EndTokens.Of(session.Loaded.Folder, session.Tokenizer));
        var started = Stopwatch.GetTimestamp();
        var tokens = rows.Write(
            session.Model, output, options, s_sampling.Stops(arguments), arguments.GetValue(s_batch), done => Console.Error.WriteLine($"{Amount.Count(done)} of {Amount.Count(rows.Count)} rows answered"), Signals.Stop);
        var seconds = Stopwatch.GetElapsedTime(started).TotalSeconds;
        if (arguments.GetValue(s_json))
        {
            JsonLines.Write(new { output, rows = rows.Count, tokens });
        }
        else
        {
            Console.Out.WriteLine(ShownPath.Of(output));
        }

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
