using System.CommandLine;
using System.Text.Json;
using System.Text.Json.Serialization;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Data.Formats;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>The command owt tokenize.</summary>
internal static class TokenizeCommand
{
    private static readonly Option<string?> s_tokenizer = CommonOptions.Tokenizer();
    private static readonly Option<string[]> s_text = new("--text") { Description = "A text; - reads it from stdin. May be repeated.", HelpName = "TEXT" };
    private static readonly Option<string?> s_input = new("--input") { Description = "Texts: a JSON list of texts (- reads it from stdin), or rows with \"text\": JSON lines, a JSON array, CSV, Parquet or plain text.", HelpName = "FILE" };
    private static readonly DataOptions s_rows = new();

    private static readonly Option<bool> s_offsets = new("--offsets") { Description = "Add \"offsets\": start and end of each token of \"ids\" in the text, in characters (Unicode code points)." };

    private static readonly Option<bool> s_json = CommonOptions.JsonAnyway();

    internal static Command Create()
    {
        s_tokenizer.Required = true;
        var command = new Command("tokenize", "Shows the tokens of texts, and the text that they decode to.") { s_tokenizer, s_text, s_input, s_offsets, s_json };
        foreach (var option in s_rows.OfTexts)
        {
            command.Options.Add(option);
        }

        command.Validators.Add(static result =>
        {
            if (result.GetValue(s_text) is null or [] == result.GetValue(s_input) is null)
            {
                result.AddError("give one of --text and --input.");
            }
        });
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        var tokenizer = Tokenizer.Load(ModelSession.FindTokenizer(arguments.GetValue(s_tokenizer)!).Path);
        foreach (var text in Texts(arguments))
        {
            var ids = tokenizer.Encode(text, addSpecialTokens: false);
            JsonLines.Write(new Line(
                ids,
                tokenizer.Encode(text, addSpecialTokens: true),
                ids.Select(tokenizer.IdToToken),
                tokenizer.Decode(ids.AsSpan(), skipSpecialTokens: false),
                tokenizer.Decode(ids.AsSpan(), skipSpecialTokens: true),
                arguments.GetValue(s_offsets) ? Offsets(tokenizer, text) : null));
        }

        return ExitCode.Success;
    }

    private static IEnumerable<string> Texts(ParseResult arguments) => arguments.GetValue(s_input) is not { } path
        ? arguments.GetValue(s_text)!.Select(InputText.Of)
        : IsList(path)
        ? JsonFile.ReadList(path, static item => item?.GetValueKind() == JsonValueKind.String, "a JSON list of texts").Select(static item => item.GetValue<string>())
        : DataFile.ReadNamed(s_rows.Read(arguments, path)).Select(InputText.Of);

    // A list of texts, or one text; data files have rows with fields.
    private static bool IsList(string path)
    {
        if (path == InputText.Stdin)
        {
            return true;
        }

        if (!File.Exists(path) || Path.GetExtension(path).ToLowerInvariant() is not (".json" or ""))
        {
            return false;
        }

        using var reader = new StreamReader(path);
        int Next()
        {
            int c;
            while ((c = reader.Read()) >= 0 && char.IsWhiteSpace((char)c))
            {
            }

            return c;
        }

        return Next() switch
        {
            '[' => Next() is '"' or ']',
            '"' => true,
            _ => false,
        };
    }

    private static IEnumerable<int[]> Offsets(Tokenizer tokenizer, string text)
    {
        var before = new int[text.Length + 1];
        for (var i = 0; i < text.Length; i++)
        {
            before[i + 1] = before[i] + (i > 0 && char.IsSurrogatePair(text[i - 1], text[i]) ? 0 : 1);
        }

        // An offset never falls within a surrogate pair: a token that is part of a character covers all of it.
        return tokenizer.EncodeWithOffsets(text, addSpecialTokens: false).Select(span => new[] { before[span.Start], before[span.End] });
    }

    private sealed record Line(
        [property: JsonPropertyName("ids")] int[] Ids,
        [property: JsonPropertyName("ids_with_special")] int[] IdsWithSpecial,
        [property: JsonPropertyName("tokens")] IEnumerable<string?> Tokens,
        [property: JsonPropertyName("decoded")] string Decoded,
        [property: JsonPropertyName("decoded_skip_special")] string DecodedSkipSpecial,
        [property: JsonPropertyName("offsets"), JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] IEnumerable<int[]>? Offsets);
}
