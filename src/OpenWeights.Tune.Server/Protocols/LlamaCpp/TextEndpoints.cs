using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using OpenWeights.Tune.Answering;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Server.Protocols.OpenAi;

namespace OpenWeights.Tune.Server.Protocols.LlamaCpp;

/// <summary>POST /tokenize, /detokenize and /apply-template, as llama.cpp has them; the first also as vLLM has it.</summary>
/// <param name="state">The service.</param>
internal sealed class TextEndpoints(ServerState state)
{
    internal void Map(IEndpointRouteBuilder routes)
    {
        _ = routes.MapPost("/tokenize", TokenizeAsync);
        _ = routes.MapPost("/detokenize", DetokenizeAsync);
        _ = routes.MapPost("/apply-template", RenderAsync);
    }

    private async Task TokenizeAsync(HttpContext context)
    {
        var fields = await LlamaJson.ReadAsync<TokenizeRequest>(context).ConfigureAwait(false);
        var model = state.Find(fields.Model);
        if (fields.ParseSpecial == false)
        {
            throw new RequestException("'parse_special' is always true: special tokens of a text are read as such.", "parse_special");
        }

        if (fields.Content is not { } content)
        {
            var ids = Prompt(fields, model);
            await LlamaJson.WriteAsync(context, new TokenList(ids) { Count = ids.Count, MaxModelLen = state.Service.Context }).ConfigureAwait(false);
            return;
        }

        var tokens = model.Tokenizer.Encode(content, addSpecialTokens: fields.AddSpecial == true);
        await (fields.WithPieces == true
            ? LlamaJson.WriteAsync(context, new PieceList([.. tokens.Select(t => Piece(model, t))]))
            : LlamaJson.WriteAsync(context, new TokenList(tokens))).ConfigureAwait(false);
    }

    private static IReadOnlyList<int> Prompt(TokenizeRequest fields, ServedModel model) => fields.Prompt is { } prompt
        ? fields.AddSpecialTokens == false ? model.Tokenizer.Encode(prompt, addSpecialTokens: false) : model.Tokenizer.EncodePrompt(prompt)
        : fields.Messages is not null ? model.Tokenizer.Encode(model.Render(ChatMessages.Read(fields.Messages, model.Tokenizer.ChatTemplateText), null, null), addSpecialTokens: false)
        : throw new RequestException("Missing required parameter: 'content'.", "content");

    private async Task DetokenizeAsync(HttpContext context)
    {
        var fields = await LlamaJson.ReadAsync<DetokenizeRequest>(context).ConfigureAwait(false);
        var tokens = fields.Tokens ?? throw new RequestException("Missing required parameter: 'tokens'.", "tokens");
        await LlamaJson.WriteAsync(context, new ContentAnswer(state.Find(fields.Model).Tokenizer.Decode(tokens, skipSpecialTokens: false))).ConfigureAwait(false);
    }

    private async Task RenderAsync(HttpContext context)
    {
        var fields = await LlamaJson.ReadAsync<TemplateRequest>(context).ConfigureAwait(false);
        var model = state.Find(fields.Model);
        var messages = ChatMessages.Read(fields.Messages, model.Tokenizer.ChatTemplateText);
        await LlamaJson.WriteAsync(context, new PromptAnswer(model.Render(messages, ChatMessages.Tools(fields.Tools), ChatMessages.Values(fields.ChatTemplateKwargs, fields.ReasoningEffort)))).ConfigureAwait(false);
    }

    private static TokenPiece Piece(ServedModel model, int token)
    {
        var (text, bytes) = model.TextOf(token);
        return new TokenPiece(token, text.Contains('\uFFFD', StringComparison.Ordinal) ? bytes.ToArray().Select(static b => (int)b).ToArray() : text);
    }
}
