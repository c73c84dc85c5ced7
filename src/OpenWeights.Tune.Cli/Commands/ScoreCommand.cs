using System.CommandLine;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Formats;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>The command owt score.</summary>
internal static class ScoreCommand
{
    private const long ChunkScores = 1 << 24;
    private static readonly ModelOptions s_model = new(isExact: true);
    private static readonly Option<string[]> s_text = new("--text") { Description = "A text to score; - reads it from stdin. May be repeated.", HelpName = "TEXT" };
    private static readonly Option<string?> s_messages = new("--messages") { Description = "A conversation to score: a JSON list of messages, using the model's chat template; - reads it from stdin.", HelpName = "FILE" };
    private static readonly Option<string?> s_input = new("--input") { Description = "Rows to score, each with \"text\" or \"input_ids\": JSON lines, a JSON array, CSV, Parquet or plain text.", HelpName = "FILE" };
    private static readonly DataOptions s_rows = new();
    private static readonly Option<string?> s_logits = new("--logits") { Description = "Also write the logits of each text, [tokens, vocabulary], in float32, as a tensor named by the text's number from 0.", HelpName = "FILE.safetensors" };
    private static readonly Option<bool> s_rewards = new("--rewards") { Description = "Print the reward of each text, with a reward model: of a chat or a prompt with its completion, and of both answers of a pair." };
    private static readonly Option<bool> s_labels = new("--labels") { Description = "Print the likeliest class of each text and the probability of each, with a classifier." };
    private static readonly Option<string?> s_embeddings = new Option<string?>("--embeddings") { Description = "Print the vector of each text, with an embedding model; as a query or as a document, which have the prompts of the model.", HelpName = "query|document" }.OnlyFrom("query", "document");
    private static readonly Option<bool> s_json = CommonOptions.JsonAnyway();

    internal static Command Create()
    {
        var command = new Command("score", "Prints the log-probability of each token of texts, or with a reward model their rewards, with a classifier their classes, or with an embedding model their vectors.");
        s_model.AddTo(command, [s_text, s_messages, s_input, .. s_rows.OfTexts, s_logits, s_rewards, s_labels, s_embeddings, s_json]);
        command.Validators.Add(static result =>
        {
            if (new[] { result.GetValue(s_text) is { Length: > 0 }, result.GetValue(s_messages) is not null, result.GetValue(s_input) is not null }.Count(static g => g) != 1)
            {
                result.AddError("give one of --text, --messages and --input.");
            }

            if (new[] { result.GetValue(s_logits) is not null, result.GetValue(s_rewards), result.GetValue(s_labels), result.GetValue(s_embeddings) is not null }.Count(static g => g) > 1)
            {
                result.AddError("give one of --rewards, --labels, --embeddings and --logits.");
            }
        });
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        using var session = s_model.Open(arguments);
        if (arguments.GetValue(s_rewards) || arguments.GetValue(s_labels))
        {
            return ScoreLabels.Write(session, Texts(arguments), arguments.GetValue(s_rewards));
        }

        if (arguments.GetValue(s_embeddings) is { } use)
        {
            return ScoreEmbeddings.Write(session, Texts(arguments), use == "query");
        }

        session.Model.Config.RequireLanguage("a log-probability of tokens");
        using var nothing = no_grad();
        using var kept = NewDisposeScope();
        var wanted = arguments.GetValue(s_logits);
        var tensors = new List<TensorToWrite>();
        foreach (var (ids, place) in Rows(arguments, session))
        {
            Signals.Stop.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            var logits = Logits(session.Model, ids, place);
            var scores = LogProbabilities(logits, ids);
            JsonLines.Write(new { input_ids = ids, logprobs = new double?[] { null }.Concat(scores.Select(static s => (double?)s)), sum_logprob = scores.Sum() });
            if (wanted is not null)
            {
                tensors.Add(TensorFiles.ToWrite(tensors.Count.ToString(CultureInfo.InvariantCulture), scope.MoveToOuter(logits.to(float32))));
            }
        }

        if (wanted is not null)
        {
            SafetensorsWriter.Write(wanted, tensors);
        }

        return ExitCode.Success;
    }

    // The rows to judge or classify.
    private static IEnumerable<DataRow> Texts(ParseResult arguments)
    {
        if (arguments.GetValue(s_text) is { Length: > 0 } texts)
        {
            return texts.Select(static (text, i) => new DataRow(new JsonObject { ["text"] = InputText.Of(text) }, $"text {i + 1}"));
        }

        return arguments.GetValue(s_messages) is { } path
            ? [new DataRow(new JsonObject { ["messages"] = JsonFile.ReadMessages(path) }, path)]
            : DataFile.ReadNamed(s_rows.Read(arguments, arguments.GetValue(s_input)!));
    }

    private static IEnumerable<(int[] Ids, string Place)> Rows(ParseResult arguments, ModelSession session)
    {
        int[] Encoded(string text) => [.. session.Tokenizer.EncodeOnce(text).Select(static s => s.Id)];
        if (arguments.GetValue(s_text) is { Length: > 0 } texts)
        {
            return texts.Select((text, i) => (Encoded(InputText.Of(text)), $"text {i + 1}"));
        }

        return arguments.GetValue(s_messages) is not { } path
            ? DataFile.ReadNamed(s_rows.Read(arguments, arguments.GetValue(s_input)!)).Select(row => (row.Has("input_ids") ? row.Ints("input_ids") : Encoded(InputText.Of(row)), row.Place))
            : session.Tokenizer.ChatTemplateText is null
            ? throw new InvalidDataException($"{session.Loaded.Folder.FolderPath} has no chat template, which messages need; use --text to score a text.")
            : [(session.Tokenizer.Encode(new ChatRenderer(session.Tokenizer).Render(JsonFile.ReadMessages(path), tools: null, addGenerationPrompt: false), addSpecialTokens: false), path)];
    }

    private static Tensor Logits(CausalLanguageModel model, int[] ids, string place)
    {
        if (ids.Length == 0)
        {
            throw new InvalidDataException($"{place}: there are no tokens to score.");
        }

        if (Array.Find(ids, id => id < 0 || id >= model.VocabularySize) is not 0 and var bad)
        {
            throw new InvalidDataException($"{place}: token id {bad} is not one of the model's {model.VocabularySize} tokens.");
        }

        var room = ContextLimit.Of(model.Config);
        if (ids.Length > room.Tokens)
        {
            Console.Error.WriteLine($"warning: {place}: {ids.Length} tokens exceed the model's context of {room.Tokens} ({room.Reason}); scores beyond it are unreliable.");
        }

        var input = tensor(Array.ConvertAll(ids, static i => (long)i), [1, ids.Length], device: model.Device);
        var batch = ModelInput.Rows(input);
        return model.Logits(model.call(batch), batch).squeeze(0).cpu();
    }

    private static double[] LogProbabilities(Tensor logits, int[] ids)
    {
        if (ids.Length == 1)
        {
            return [];
        }

        // Some rows at a time: those of all tokens in float64 would take twice the logits' memory.
        var (scores, chunk) = (new double[ids.Length - 1], (int)Math.Max(1, ChunkScores / logits.size(1)));
        for (var start = 0; start < scores.Length; start += chunk)
        {
            using var scope = NewDisposeScope();
            var count = Math.Min(chunk, scores.Length - start);
            var next = tensor(Array.ConvertAll(ids[(start + 1)..(start + 1 + count)], static i => (long)i), [count, 1]);
            var found = logits.narrow(0, start, count).to(float64).log_softmax(-1).gather(1, next).contiguous();
            MemoryMarshal.Cast<byte, double>(found.bytes).CopyTo(scores.AsSpan(start));
        }

        return scores;
    }
}
