using System.CommandLine;
using System.Text.Json;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Cli.Output;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>owt tokenize.</summary>
internal static class TokenizeCommand
{
    private static readonly Option<string> s_tokenizer = new("--tokenizer") { Description = "The tokenizer's folder or file.", HelpName = "DIR_OR_FILE", Required = true };
    private static readonly Option<string> s_input = new("--input") { Description = "A JSON list of texts.", HelpName = "FILE.json", Required = true };

    internal static Command Create()
    {
        var command = new Command("tokenize", "Shows the tokens of texts, and the texts of these tokens.") { s_tokenizer, s_input };
        command.SetAction(Run);
        return command;
    }

    private static int Run(ParseResult arguments)
    {
        var tokenizer = Tokenizer.Load(arguments.GetValue(s_tokenizer)!);
        foreach (var text in Texts(arguments.GetValue(s_input)!))
        {
            var ids = tokenizer.Encode(text, addSpecialTokens: false);
            JsonLines.Write(new
            {
                ids,
                ids_with_special = tokenizer.Encode(text, addSpecialTokens: true),
                tokens = ids.Select(tokenizer.IdToToken),
                decoded = tokenizer.Decode(ids.AsSpan(), skipSpecialTokens: false),
                decoded_skip_special = tokenizer.Decode(ids.AsSpan(), skipSpecialTokens: true),
            });
        }

        return ExitCode.Success;
    }

    private static string[] Texts(string path)
    {
        if (!File.Exists(path))
        {
            throw new FileNotFoundException($"{path}: there is no such file.", path);
        }

        try
        {
            return JsonSerializer.Deserialize<string[]>(File.ReadAllText(path)) ?? throw new InvalidDataException($"{path}: a JSON list of texts is wanted.");
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"{path}: a JSON list of texts is wanted ({e.Message})", e);
        }
    }
}
