using System.Text.Json.Nodes;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tokenizers;
using OpenWeights.Tokenizers.Templates;
using OpenWeights.Tune.Models.Weights;

namespace OpenWeights.Tune.Data.Tokens;

/// <summary>The tokens that end a text.</summary>
internal static class EndTokens
{
    private const string Answer = "yes";

    /// <summary>
    /// End tokens from the model's configs, the tokenizer, and the chat template's end of an assistant turn. A base model's configs often
    /// name only the end of a document, and a model trained on chats would never stop.
    /// </summary>
    /// <param name="folder">The model's folder.</param>
    /// <param name="tokenizer">Its tokenizer.</param>
    public static IReadOnlyList<int> Of(ModelFolder folder, ITokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(folder);
        ArgumentNullException.ThrowIfNull(tokenizer);
        return [.. folder.EosTokenIds.Concat(tokenizer.EosToken is { } end ? [end] : []).Concat(OfTemplate(tokenizer) is { } turn ? [turn] : []).Distinct()];
    }

    /// <summary>The token that ends an assistant turn in a model's chat template; null if there is none.</summary>
    internal static int? OfTurn(LoadedModel model)
    {
        if (!Tokenizer.IsIn(model.Folder.FolderPath))
        {
            return null;
        }

        var tokenizer = Tokenizer.Load(model.Folder.FolderPath);
        return OfTemplate(model.ChatTemplate is { } other ? tokenizer.WithChatTemplate(other) : tokenizer);
    }

    /// <summary>
    /// The token that ends an assistant turn in a tokenizer's chat template; null if there is no template, or the end is not a single
    /// token.
    /// </summary>
    /// <param name="tokenizer">The tokenizer.</param>
    public static int? OfTemplate(ITokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        if (TurnEnd(tokenizer) is not { } end)
        {
            return null;
        }

        var tokens = tokenizer.EncodeWithOffsets(end.Text, addSpecialTokens: false)
            .Where(s => s.Start >= end.Start && s.End <= end.End && s.End > s.Start && !string.IsNullOrWhiteSpace(end.Text[s.Start..s.End])).ToList();
        return tokens is [var one] && one.End - one.Start > 1 ? one.Id : null;
    }

    // A short chat, and the range after the answer that the assistant has to produce.
    private static (string Text, int Start, int End)? TurnEnd(ITokenizer tokenizer)
    {
        if (tokenizer.ChatTemplateText is null)
        {
            return null;
        }

        static JsonObject Message(string role, string content) => new() { ["role"] = role, ["content"] = content };
        try
        {
            var chat = new ChatRenderer(tokenizer).RenderForTraining([Message("user", "Is it?"), Message("assistant", Answer)], tools: null, new TrainedTurns(All: false, LastAlone: true, static _ => true));
            var start = chat.Text.LastIndexOf(Answer, StringComparison.Ordinal);
            return start >= 0 && chat.Trained is [.., var last] && last.End.Value > start + Answer.Length ? (chat.Text, start + Answer.Length, last.End.Value) : null;
        }
        catch (Exception e) when (e is ChatTemplateException or InvalidDataException)
        {
            // Templates that reject the chat are reported when a chat is rendered.
            return null;
        }
    }
}
