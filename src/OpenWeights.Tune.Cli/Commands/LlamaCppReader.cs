using System.Text.Json.Nodes;
using OpenWeights.LlamaCpp;
using OpenWeights.Tokenizers;
using OpenWeights.Tokenizers.Templates;
using OpenWeights.Tune.Comparison;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>llama.cpp as the reader of a GGUF file, optionally with a LoRA file.</summary>
internal sealed class LlamaCppReader : IModelReader, IDisposable
{
    private const int ShownCharacters = 40;
    private readonly LlamaModel _model;

    private LlamaCppReader(LlamaModel model)
    {
        _model = model;
        EndTokens = model.EndTokens;
        Notes = BuiltInTemplate() is { } note ? [note] : [];
    }

    public string Name => "llama.cpp";

    // It continues past the context length that a model was trained with.
    public (int Tokens, string Because)? Room => null;

    public ITokenizer? Tokenizer => _model.Tokenizer;

    public IReadOnlyList<int> EndTokens { get; }

    public IReadOnlyList<string> Notes { get; }

    /// <summary>Opens a file; null, with the reason, if llama.cpp is unavailable or cannot read it.</summary>
    internal static LlamaCppReader? TryOpen(string path, string? lora, out string? why)
    {
        why = LlamaLibrary.Problem;
        if (why is not null)
        {
            return null;
        }

        try
        {
            var model = new LlamaModel(path, lora, TorchSharp.torch.get_num_threads());
            why = model.Tokenizer is null ? "the file has no tokenizer" : null;
            if (why is null)
            {
                return new LlamaCppReader(model);
            }

            model.Dispose();
        }
        catch (InvalidDataException e)
        {
            why = e.Message;
        }

        return null;
    }

    public RowTokenizer Rows(string trainOn) => new(Tokenizer!, trainOn);

    public double Loss(IReadOnlyList<TokenRow> rows, CancellationToken stop)
    {
        var (sum, count) = (0.0, 0);
        foreach (var row in rows)
        {
            stop.ThrowIfCancellationRequested();
            sum += _model.CrossEntropy(row.Ids, row.Labels);
            count += row.CountTargets();
        }

        return sum / count;
    }

    public IReadOnlyList<IReadOnlyList<int>> Continue(IReadOnlyList<int[]> prompts, int maxNewTokens, CancellationToken stop) =>
        [.. prompts.Select(p => _model.Greedy(p, maxNewTokens, stop))];

    public void Dispose() => _model.Dispose();

    // The difference for programs that use llama.cpp's built-in templates instead of the file's; null if there is none.
    private string? BuiltInTemplate()
    {
        if (Tokenizer?.ChatTemplateText is not { } template)
        {
            return null;
        }

        var renderer = new ChatRenderer(Tokenizer);
        foreach (var chat in new[] { new[] { ("user", "Is it?") }, [("user", "Is it?"), ("assistant", "yes"), ("user", "Why?")] })
        {
            if (Own(renderer, chat) is not { } own)
            {
                continue;
            }

            if (BuiltInTemplates.Render(template, chat) is not { } theirs)
            {
                return "llama.cpp's own list of chat templates has none for this file's: programs must render the file's template (llama.cpp's do, unless --no-jinja is given)";
            }

            var (expected, actual) = (Tokenizer.Encode(own, addSpecialTokens: false), Tokenizer.Encode(theirs, addSpecialTokens: false));
            if (!expected.AsSpan().SequenceEqual(actual))
            {
                var at = own.AsSpan().CommonPrefixLength(theirs);
                return $"llama.cpp's own list of chat templates (--no-jinja, and programs that do not render the file's template) differs from this file's: {Shown(theirs, at)} in the place of {Shown(own, at)}";
            }
        }

        return null;
    }

    private static string? Own(ChatRenderer renderer, (string Role, string Content)[] chat)
    {
        try
        {
            return renderer.Render(new JsonArray([.. chat.Select(static m => (JsonNode)new JsonObject { ["role"] = m.Role, ["content"] = m.Content })]), tools: null, addGenerationPrompt: true);
        }
        catch (ChatTemplateException)
        {
            // Programs that render a chat get this note.
            return null;
        }
    }

    private static string Shown(string text, int at) => at == text.Length ? "the end" : $"\"{text[at..Math.Min(text.Length, at + ShownCharacters)].Replace("\n", "\\n", StringComparison.Ordinal)}{(text.Length > at + ShownCharacters ? "..." : "")}\"";
}
