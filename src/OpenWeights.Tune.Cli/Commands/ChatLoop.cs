using System.Diagnostics;
using System.Text;
using System.Text.Json.Nodes;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>
/// A conversation: each line is sent to the model with the messages before it; lines that start with a slash are commands.
/// </summary>
internal sealed class ChatLoop : IDisposable
{
    /// <summary>The name that selects the base model without adapter.</summary>
    internal const string None = "none";

    private const string Block = "\"\"\"";

    private const string Help = """
        /reset           forget what was said
        /system TEXT     tell the model something first, and begin anew; without TEXT nothing
        /adapter NAME    answer with this adapter; without NAME tells which there are; none for the base alone
        /help            this
        /quit            end, as the end of input does
        A line that ends with \ goes on in the next. Lines between two lines of three quotes are one message.
        Ctrl-C stops an answer; twice without an answer between them ends.
        """;

    private readonly CausalLanguageModel _model;
    private readonly Tokenizer _tokenizer;
    private readonly AdapterSet _adapters;
    private readonly GenerationOptions _options;
    private readonly IReadOnlyList<string> _stops;
    private readonly bool _showsReasoning;
    private readonly TextReader _input;
    private readonly TextWriter _output;
    private readonly TextWriter _notes;
    private readonly ChatRenderer _renderer;
    private readonly JsonArray _messages = [];
    private readonly PromptCache _memory = new();
    private CancellationTokenSource? _answer;
    private string? _adapter;
    private string? _system;
    private bool _warned;

    /// <summary>Creates a conversation.</summary>
    /// <param name="model">The model.</param>
    /// <param name="tokenizer">Its tokenizer.</param>
    /// <param name="adapters">Its adapters by name; the first is activated.</param>
    /// <param name="options">Settings of the generation.</param>
    /// <param name="stops">Stop sequences of an answer.</param>
    /// <param name="input">The user's input.</param>
    /// <param name="output">Receives the answers.</param>
    /// <param name="notes">Receives everything else.</param>
    /// <param name="showsReasoning">Whether what the model reasons before an answer is written too.</param>
    /// <exception cref="InvalidDataException">The model has no chat template.</exception>
    internal ChatLoop(
        CausalLanguageModel model, Tokenizer tokenizer, AdapterSet adapters, GenerationOptions options,
        IReadOnlyList<string> stops, TextReader input, TextWriter output, TextWriter notes, bool showsReasoning = false)
    {
        _model = model;
        _tokenizer = tokenizer;
        _adapters = adapters;
        _options = options;
        _stops = stops;
        _showsReasoning = showsReasoning;
        _input = input;
        _output = output;
        _notes = notes;
        _renderer = tokenizer.ChatTemplateText is null
            ? throw new InvalidDataException("the model has no chat template; use generate --prompt.")
            : new ChatRenderer(tokenizer);
        UseAdapter(adapters.Names.FirstOrDefault());
    }

    /// <summary>
    /// Handles Ctrl-C: stops the answer in progress; otherwise warns the first time and ends the program the second time.
    /// </summary>
    /// <returns>Whether the signal was handled.</returns>
    internal bool Interrupt()
    {
        if (_answer is { } answer)
        {
            answer.Cancel();
            return true;
        }

        if (_warned)
        {
            return false;
        }

        _warned = true;
        _notes.WriteLine("\nCtrl-C once more, or /quit, ends.");
        return true;
    }

    /// <summary>Restarts the conversation with a system message; null or empty for none.</summary>
    internal void UseSystem(string? text)
    {
        _system = string.IsNullOrWhiteSpace(text) ? null : text;
        Reset();
    }

    /// <summary>Chats until the input ends.</summary>
    internal void Run()
    {
        while (Read() is { } text && Take(text))
        {
        }
    }

    private bool Take(string text)
    {
        var space = text.IndexOf(' ', StringComparison.Ordinal);
        var (order, rest) = space < 0 ? (text, "") : (text[..space], text[(space + 1)..].Trim());
        switch (order)
        {
            case "/quit" or "/exit":
                return false;
            case "/help":
                _notes.WriteLine(Help);
                break;
            case "/reset":
                Reset();
                _notes.WriteLine("forgotten.");
                break;
            case "/system":
                UseSystem(rest);
                _notes.WriteLine(_system is null ? "no system message; conversation restarted." : "system message set; conversation restarted.");
                break;
            case "/adapter":
                ChangeAdapter(rest);
                break;
            case ['/', _, ..] when char.IsAsciiLetter(order[1]) && order.Skip(1).All(char.IsAsciiLetter):
                _notes.WriteLine($"unknown command {order}; /help lists the commands.");
                break;
            default:
                Answer(text);
                break;
        }

        return true;
    }

    /// <summary>Frees the cache of the conversation.</summary>
    public void Dispose() => _memory.Dispose();

    private void Reset()
    {
        _memory.Clear();
        _messages.Clear();
        if (_system is not null)
        {
            _messages.Add(Message("system", _system));
        }
    }

    private void ChangeAdapter(string name)
    {
        if (name.Length == 0)
        {
            _notes.WriteLine(_adapters.Names.Count == 0 ? "there are no adapters; start with --adapter NAME=DIR." : $"adapters: {string.Join(", ", _adapters.Names.Select(n => n == _adapter ? n + " (on)" : n))}");
        }
        else if (name == None || _adapters.Names.Contains(name))
        {
            UseAdapter(name == None ? null : name);
            _notes.WriteLine(name == None ? "the base model answers." : $"{name} answers.");
        }
        else
        {
            _notes.WriteLine($"no adapter is named {name}; choose from {string.Join(", ", _adapters.Names.Append(None))}.");
        }
    }

    private void UseAdapter(string? name)
    {
        // The cached keys and values belong to the previous adapter.
        _memory.Clear();
        _adapters.Use(name is null ? [] : [(name, 1)]);
        _adapter = name;
    }

    private void Answer(string text)
    {
        _messages.Add(Message("user", text));
        var rendered = _renderer.Render(_messages, tools: null, addGenerationPrompt: true);
        var prompt = _tokenizer.Encode(rendered, addSpecialTokens: false);
        var room = ContextLimit.Of(_model.Config).Tokens - prompt.Length;
        if (room < 1)
        {
            _messages.RemoveAt(_messages.Count - 1);
            _notes.WriteLine($"the conversation has {prompt.Length} tokens, but the model's context is {ContextLimit.Of(_model.Config).Tokens}; use /reset, or a shorter message.");
            return;
        }

        var stream = new AnswerStream(_tokenizer, new AnswerReader(_renderer.Reasoning, rendered), _stops, _output, _showsReasoning);
        var (count, started) = (0, Stopwatch.GetTimestamp());
        using var answer = CancellationTokenSource.CreateLinkedTokenSource(Signals.Stop);
        (_answer, _warned) = (answer, false);
        var generator = new TextGenerator(_model, _options with { MaxNewTokens = Math.Min(_options.MaxNewTokens, room) });
        var ended = "";
        try
        {
            var made = generator.Continue(prompt, _memory, token =>
            {
                count++;
                return stream.Add(token);
            }, stop: answer.Token);
            ended = made.IsFull ? ", the model's context is full; /reset restarts the conversation" : "";
        }
        catch (OperationCanceledException) when (!Signals.Stop.IsCancellationRequested)
        {
            ended = ", stopped";
        }
        finally
        {
            _answer = null;
        }

        stream.Finish();
        _output.WriteLine();
        _messages.Add(_renderer.Reasoning.Message(stream.Reasoning, stream.Text));
        var seconds = Math.Max(Stopwatch.GetElapsedTime(started).TotalSeconds, 1e-9);
        var reasoned = stream.ReasoningTokens > 0 ? $", {stream.ReasoningTokens} of them reasoning" : "";
        ended = stream.IsCutOff && ended.Length == 0 ? ", ended before the reasoning did; --max-new-tokens allows more" : ended;
        _notes.WriteLine($"({count} tokens{reasoned}, {Amount.Number(count / seconds, "F1")} tokens/s{ended})");
    }

    /// <summary>Reads a message of one or more lines; null at the end of the input.</summary>
    private string? Read()
    {
        while (true)
        {
            _notes.Write("> ");
            _notes.Flush();
            if (_input.ReadLine() is not { } line)
            {
                return null;
            }

            var text = line.Trim() == Block ? ReadBlock() : ReadContinued(line);
            if (text.Trim().Length > 0)
            {
                return text;
            }
        }
    }

    private string ReadContinued(string line)
    {
        var text = new StringBuilder();
        while (line.EndsWith('\\') && _input.ReadLine() is { } next)
        {
            _ = text.Append(line, 0, line.Length - 1).Append('\n');
            line = next;
        }

        return text.Append(line).ToString();
    }

    private string ReadBlock()
    {
        var lines = new List<string>();
        while (_input.ReadLine() is { } line && line.Trim() != Block)
        {
            lines.Add(line);
        }

        return string.Join('\n', lines);
    }

    private static JsonObject Message(string role, string content) => new() { ["role"] = role, ["content"] = content };
}
