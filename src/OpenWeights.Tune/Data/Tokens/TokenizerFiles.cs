using System.Globalization;
using System.Text.Json.Nodes;
using OpenWeights.Formats.Json;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Data.Tokens;

/// <summary>Adds tokens to the files of a tokenizer, as transformers' add_tokens and save_pretrained do.</summary>
internal static class TokenizerFiles
{
    private const string Main = "tokenizer.json";
    private const string Settings = "tokenizer_config.json";
    private const string Added = "added_tokens.json";

    /// <summary>The changed files, by name.</summary>
    /// <param name="folder">The model's folder.</param>
    /// <param name="tokens">The tokens, whose ids follow the tokenizer's largest.</param>
    /// <exception cref="InvalidDataException">The tokenizer has no tokenizer.json, or has one of the tokens already.</exception>
    internal static Dictionary<string, string> With(string folder, IReadOnlyList<NewTokenSection> tokens)
    {
        if (!File.Exists(Path.Combine(folder, Main)))
        {
            throw new InvalidDataException($"{folder}: model.new_tokens needs a tokenizer.json, which the model does not have; save its tokenizer with a current version of transformers first.");
        }

        var tokenizer = Tokenizer.Load(folder);
        foreach (var token in tokens)
        {
            if (tokenizer.TokenToId(token.Token) is { } id)
            {
                throw new InvalidDataException($"model.new_tokens: '{token.Token}' is token {id} of the model already; leave it out, and train its row with adapter.trainable_token_indices.");
            }
        }

        var first = tokenizer.VocabularySize;
        var files = new Dictionary<string, string> { [Main] = WithList(Path.Combine(folder, Main), tokens, first) };
        if (Read(folder, Settings) is { } settings && settings["added_tokens_decoder"] is JsonObject decoder)
        {
            for (var i = 0; i < tokens.Count; i++)
            {
                decoder[(first + i).ToString(CultureInfo.InvariantCulture)] = Entry(tokens[i]);
            }

            files[Settings] = Text(settings);
        }

        if (Read(folder, Added) is { } added)
        {
            for (var i = 0; i < tokens.Count; i++)
            {
                added[tokens[i].Token] = first + i;
            }

            files[Added] = Text(added);
        }

        return files;
    }

    private static string WithList(string path, IReadOnlyList<NewTokenSection> tokens, int first)
    {
        var json = JsonFile.ReadObject(path);
        if (json["added_tokens"] is not JsonArray list)
        {
            json["added_tokens"] = list = [];
        }

        for (var i = 0; i < tokens.Count; i++)
        {
            var entry = new JsonObject { ["id"] = first + i };
            foreach (var (key, value) in Entry(tokens[i]))
            {
                entry[key] = value!.DeepClone();
            }

            list.Add(entry);
        }

        return Text(json);
    }

    private static JsonObject Entry(NewTokenSection token) => new()
    {
        ["content"] = token.Token,
        ["single_word"] = false,
        ["lstrip"] = false,
        ["rstrip"] = false,
        ["normalized"] = !token.Special,
        ["special"] = token.Special,
    };

    private static JsonObject? Read(string folder, string name) => Path.Combine(folder, name) is var path && File.Exists(path) ? JsonFile.ReadObject(path) : null;

    private static string Text(JsonObject json) => PythonJson.Serialize(json, indent: 2, sortKeys: false, ensureAscii: false) + "\n";
}
