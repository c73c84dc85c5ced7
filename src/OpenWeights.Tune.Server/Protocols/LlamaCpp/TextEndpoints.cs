using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Answering;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Server.Protocols.OpenAi;

namespace OpenWeights.Tune.Server.Protocols.LlamaCpp;

/// <summary>POST /tokenize, /detokenize and /apply-template, as llama.cpp has them, the first also as vLLM has it; and GET /lora-adapters.</summary>
/// <param name="state">The service.</param>
internal sealed class TextEndpoints(ServerState state)
{
    internal void Map(IEndpointRouteBuilder routes)
    {
        _ = routes.MapPost("/tokenize", TokenizeAsync);
        _ = routes.MapPost("/detokenize", DetokenizeAsync);
        _ = routes.MapPost("/apply-template", RenderAsync);
        _ = routes.MapGet("/lora-adapters", ListAsync);
    }

    // What a request without a list of scales gets: the base.
    private Task ListAsync(HttpContext context) => LlamaJson.WriteAsync<IReadOnlyList<AdapterEntry>>(context, [.. state.Adapters.Select(static (a, i) => new AdapterEntry(i, a.Name, 0))]);

    private async Task TokenizeAsync(HttpContext context)
    {
        var fields = await LlamaJson.ReadAsync<TokenizeRequest>(context).ConfigureAwait(false);
        var model = state.Find(fields.Model);
        if (fields.Content is not { ValueKind: not JsonValueKind.Null } content)
        {
            var ids = Prompt(fields, model);
            await LlamaJson.WriteAsync(context, new TokenList(ids) { Count = ids.Count, MaxModelLen = state.Service.Context }).ConfigureAwait(false);
            return;
        }

        var tokens = Content(content, fields.AddSpecial == true, fields.ParseSpecial != false, model.Tokenizer);
        await (fields.WithPieces == true
            ? LlamaJson.WriteAsync(context, new PieceList([.. tokens.Select(t => Piece(model, t))]))
            : LlamaJson.WriteAsync(context, new TokenList(tokens))).ConfigureAwait(false);
    }

    private static IReadOnlyList<int> Prompt(TokenizeRequest fields, ServedModel model) => fields.Prompt is { } prompt
        ? fields.AddSpecialTokens == false ? model.Tokenizer.Encode(prompt, addSpecialTokens: false) : model.Tokenizer.EncodePrompt(prompt)
        : fields.Messages is not null ? model.Tokenizer.Encode(model.Render(ChatMessages.Read(fields.Messages, model.Tokenizer.ChatTemplateText), null, null), addSpecialTokens: false)
        : throw new RequestException("Missing required parameter: 'content'.", "content");

    private static IReadOnlyList<int> Content(JsonElement content, bool addsSpecial, bool readsSpecial, Tokenizer tokenizer)
    {
        JsonElement[] parts = content.ValueKind == JsonValueKind.Array ? [.. content.EnumerateArray()] : [content];
        return [.. parts.SelectMany((part, i) => part.ValueKind switch
        {
            JsonValueKind.Number when part.TryGetInt32(out var token) => [Known(token, $"content[{i}]", tokenizer)],
            JsonValueKind.String => readsSpecial ? tokenizer.Encode(part.GetString()!, addsSpecial && i == 0) : tokenizer.EncodePlain(part.GetString()!, addsSpecial && i == 0),
            _ => throw new RequestException("Invalid type for 'content': it must be a text, or a list of texts and tokens.", "content"),
        })];
    }

    private static int Known(int token, string place, Tokenizer tokenizer) => tokenizer.IdToToken(token) is not null ? token : throw new RequestException($"Invalid '{place}': there is no token {token}.", place);

    private async Task DetokenizeAsync(HttpContext context)
    {
        var fields = await LlamaJson.ReadAsync<DetokenizeRequest>(context).ConfigureAwait(false);
        var tokens = fields.Tokens ?? throw new RequestException("Missing required parameter: 'tokens'.", "tokens");
        var tokenizer = state.Find(fields.Model).Tokenizer;
        await LlamaJson.WriteAsync(context, new ContentAnswer(tokenizer.Decode(tokens.Select((t, i) => Known(t, $"tokens[{i}]", tokenizer)), skipSpecialTokens: false))).ConfigureAwait(false);
    }

    private async Task RenderAsync(HttpContext context)
    {
        var fields = await LlamaJson.ReadAsync<TemplateRequest>(context).ConfigureAwait(false);
        var model = state.Find(fields.Model);
        var messages = ChatMessages.Read(fields.Messages, model.Tokenizer.ChatTemplateText);
        await LlamaJson.WriteAsync(context, new PromptAnswer(model.Render(messages, ChatMessages.Tools(fields.Tools), ChatMessages.Values(fields.ChatTemplateKwargs, fields.ReasoningEffort), fields.AddGenerationPrompt != false))).ConfigureAwait(false);
    }

    private static TokenPiece Piece(ServedModel model, int token)
    {
        var (text, bytes) = model.TextOf(token);
        return new TokenPiece(token, text.Contains('\uFFFD', StringComparison.Ordinal) ? bytes.ToArray().Select(static b => (int)b).ToArray() : text);
    }
}
