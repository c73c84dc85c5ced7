using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Formats;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Evaluation;

/// <summary>
/// Answers the rows of a data file in batches, and writes a line of JSON for each: its number, the prompt, the answer, what was reasoned before it, why it
/// ended, and the row's own answer if it has one. A file that was begun can be continued; what is written is the same then.
/// </summary>
internal sealed class FileAnswers
{
    private static readonly JsonSerializerOptions s_plain = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
    private readonly List<(int[] Ids, string Prompt, string? Expected)> _prompts = [];
    private readonly RowTokenizer _rows;

    /// <summary>Reads the rows.</summary>
    /// <param name="source">The rows: chats, prompts with or without an answer, instructions.</param>
    /// <param name="rows">Tokenizes them.</param>
    /// <exception cref="InvalidDataException">A row has no prompt; the message names its position.</exception>
    public FileAnswers(DataSource source, RowTokenizer rows)
    {
        ArgumentNullException.ThrowIfNull(source);
        ArgumentNullException.ThrowIfNull(rows);
        _rows = rows;
        IRowFormat? format = null;
        foreach (var row in DataFile.ReadNamed(source))
        {
            format ??= RowFormats.Of(source, row, row, RowKind.Prompts);
            var prompt = PromptFormat.Alone(format, row, row, rows);
            var fields = JsonNode.Parse(prompt.Fields!)!;
            _prompts.Add((prompt.Ids, fields[RowFieldNames.Prompt]!.GetValue<string>(), fields[RowFieldNames.Answer]?.GetValue<string>()));
        }
    }

    /// <summary>Number of rows.</summary>
    public int Count => _prompts.Count;

    /// <summary>Answers the rows that a file does not hold yet, and appends the answers to it, batch by batch.</summary>
    /// <param name="model">The model, with its adapter.</param>
    /// <param name="path">The file.</param>
    /// <param name="options">Settings of the generation.</param>
    /// <param name="stops">Texts that end an answer.</param>
    /// <param name="batchSize">Batch size, in rows.</param>
    /// <param name="tell">Called with the number of answers in the file after each batch.</param>
    /// <param name="stop">Cancels between tokens; what was written stays.</param>
    /// <returns>Number of tokens that were generated.</returns>
    /// <exception cref="InvalidDataException">The file was written for other rows, or a prompt does not fit the model's context.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    public long Write(CausalLanguageModel model, string path, GenerationOptions options, IReadOnlyList<string> stops, int batchSize, Action<int> tell, CancellationToken stop)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(tell);
        var room = ContextLimit.Of(model.Config).Tokens;
        if (_prompts.FindIndex(p => p.Ids.Length >= room) is >= 0 and var full)
        {
            throw new InvalidDataException($"row {full + 1} has {_prompts[full].Ids.Length} tokens, and the model's context is {room}; shorten it, or leave it out.");
        }

        var answers = new TextAnswers(model, _rows.Tokenizer, _rows.Chat?.Reasoning, options, stops);
        using var file = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite);
        var tokens = 0L;
        for (var done = Known(file, path); done < Count;)
        {
            tell(done);
            var batch = _prompts.GetRange(done, Math.Min(batchSize, Count - done));
            var texts = answers.Batch([.. batch.Select(static p => p.Ids)], done, stop);
            var lines = new StringBuilder();
            foreach (var (text, prompt) in texts.Zip(batch))
            {
                _ = lines.Append(Line(done++, prompt.Prompt, prompt.Expected, text)).Append('\n');
                tokens += text.Tokens;
            }

            file.Write(Encoding.UTF8.GetBytes(lines.ToString()));
            file.Flush();
        }

        tell(Count);
        return tokens;
    }

    private static string Line(int number, string prompt, string? expected, TextAnswer answer)
    {
        var line = new JsonObject { ["index"] = number, ["prompt"] = prompt, ["text"] = answer.Text, ["reasoning"] = answer.Reasoning, ["finish_reason"] = answer.FinishReason };
        if (expected is not null)
        {
            line["expected"] = expected;
        }

        return line.ToJsonString(s_plain);
    }

    // The number of answers that the file holds; a line that was cut off is removed.
    private int Known(FileStream file, string path)
    {
        var bytes = new byte[file.Length];
        file.ReadExactly(bytes);
        var whole = bytes.AsSpan().LastIndexOf((byte)'\n') + 1;
        file.SetLength(whole);
        file.Position = whole;
        var lines = Encoding.UTF8.GetString(bytes, 0, whole).Split('\n', StringSplitOptions.RemoveEmptyEntries);
        for (var i = 0; i < lines.Length; i++)
        {
            if (i >= Count || Of(lines[i]) is not { } line || line["index"]?.ToString() != $"{i}" || line["prompt"]?.ToString() != _prompts[i].Prompt)
            {
                throw new InvalidDataException($"{path}:{i + 1}: this line is not the answer to row {i + 1} of the input, so the file cannot be continued; choose another one.");
            }
        }

        return lines.Length;
    }

    private static JsonObject? Of(string line)
    {
        try
        {
            return JsonNode.Parse(line) as JsonObject;
        }
        catch (JsonException)
        {
            return null;
        }
    }
}
