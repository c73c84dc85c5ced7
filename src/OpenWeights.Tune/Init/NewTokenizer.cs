using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Formats.Files;
using OpenWeights.Formats.Json;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Data.Formats;

namespace OpenWeights.Tune.Init;

/// <summary>Trains tokenizers for models trained from scratch: byte-level BPE with a ChatML template.</summary>
internal static class NewTokenizer
{
    private const string EndOfText = "<|endoftext|>";
    private const string TurnStart = "<|im_start|>";
    private const string TurnEnd = "<|im_end|>";

    private const string ChatTemplate =
        "{% for message in messages %}{{ '" + TurnStart + "' + message['role'] + '\\n' + message['content'] + '" + TurnEnd + "' + '\\n' }}{% endfor %}"
        + "{% if add_generation_prompt %}{{ '" + TurnStart + "assistant\\n' }}{% endif %}";

    private static readonly string[] s_specials = [EndOfText, TurnStart, TurnEnd];

    /// <summary>Id of the token that ends a turn and a text.</summary>
    public static int EosToken => Array.IndexOf(s_specials, TurnEnd);

    /// <summary>Trains a tokenizer on the texts of data files and writes its files.</summary>
    /// <param name="dataFiles">JSON lines; all texts in them are used.</param>
    /// <param name="vocabularySize">Vocabulary size, including the 256 bytes and the special tokens.</param>
    /// <param name="maxPositions">Maximum context length, in tokens.</param>
    /// <param name="folder">The folder to write to.</param>
    /// <exception cref="ArgumentException">The vocabulary size is too small for the bytes and special tokens.</exception>
    /// <exception cref="InvalidDataException">A row cannot be read.</exception>
    public static void Write(IEnumerable<string> dataFiles, int vocabularySize, int maxPositions, string folder)
    {
        var texts = dataFiles.SelectMany(DataFile.Read).SelectMany(static row => Texts(row.Json));
        AtomicFile.WriteText(Path.Combine(folder, "tokenizer.json"), BpeTrainer.Train(texts, vocabularySize, s_specials));
        var config = new JsonObject
        {
            ["bos_token"] = null,
            ["chat_template"] = ChatTemplate,
            ["clean_up_tokenization_spaces"] = false,
            ["eos_token"] = TurnEnd,
            ["model_max_length"] = maxPositions,
            ["pad_token"] = EndOfText,
            ["tokenizer_class"] = "PreTrainedTokenizerFast",
            ["unk_token"] = null,
        };
        AtomicFile.WriteText(Path.Combine(folder, "tokenizer_config.json"), PythonJson.Serialize(config, indent: 2) + "\n");
    }

    // Role names come from the template, not from the data.
    private static IEnumerable<string> Texts(JsonNode? node) => node switch
    {
        JsonObject map => map.Where(static p => p.Key is not ("role" or "from")).SelectMany(static p => Texts(p.Value)),
        JsonArray list => list.SelectMany(Texts),
        JsonValue value when value.GetValueKind() == JsonValueKind.String => [value.GetValue<string>()],
        _ => [],
    };
}
