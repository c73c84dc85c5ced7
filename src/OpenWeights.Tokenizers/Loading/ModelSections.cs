
namespace OpenWeights.Tokenizers;

/// <summary>The "model" of a tokenizer.json: its two long values still as JSON unless the order of the file let them be read at once.</summary>
internal sealed class ModelSections
{
    private readonly Dictionary<string, JsonSection> _sections = [];
    private readonly string _file;

    private ModelSections(string file)
    {
        _file = file;
    }

    /// <summary>The other values.</summary>
    public JsonSection this[string key] =>
        _sections.TryGetValue(key, out var section) ? section : new JsonSection(default, _file, $"model.{key}");

    /// <summary>Where in the file <c>vocab</c> begins, or -1.</summary>
    public int VocabularyStart { get; private set; } = -1;

    /// <summary>Where in the file <c>merges</c> begins, or -1.</summary>
    public int MergesStart { get; private set; } = -1;

    /// <summary><c>vocab</c>, where it is an object of tokens and ids.</summary>
    public Vocabulary? Vocabulary { get; private set; }

    /// <summary><c>merges</c>, where they come after <c>vocab</c> and <c>continuing_subword_prefix</c>.</summary>
    public PairTable? Merges { get; private set; }

    /// <summary>Whether there is a value under the key.</summary>
    public bool Has(string key) => _sections.ContainsKey(key);

    /// <summary>Reads from the object's start to its end.</summary>
    public static ModelSections Read(ref JsonCursor cursor, string file)
    {
        var model = new ModelSections(file);
        cursor.Take('{');
        for (var isFirst = true; cursor.Next('}', ref isFirst);)
        {
            var key = cursor.TakeKey();
            switch (key)
            {
                case "vocab":
                    model.VocabularyStart = cursor.At;
                    model.ReadVocabulary(ref cursor);
                    break;
                case "merges":
                    model.MergesStart = cursor.At;
                    model.ReadMerges(ref cursor);
                    break;
                default:
                    model._sections[key] = new JsonSection(cursor.TakeValue(), file, $"model.{key}");
                    break;
            }
        }

        return model;
    }

    /// <summary>An error that names the file and the key within the model.</summary>
    public InvalidDataException Error(string key, string what) => new($"{_file}: model.{key}: {what}");

    private void ReadVocabulary(ref JsonCursor cursor)
    {
        if (cursor.Peek() == (byte)'{')
        {
            Vocabulary = VocabularyReader.ReadObject(ref cursor, what => Error("vocab", what));
        }
        else
        {
            _ = cursor.TakeValue();
        }
    }

    private void ReadMerges(ref JsonCursor cursor)
    {
        if (Vocabulary is null || cursor.Peek() != (byte)'[' || !Has("continuing_subword_prefix"))
        {
            _ = cursor.TakeValue();
            return;
        }

        var prefix = this["continuing_subword_prefix"].TextOrNull() ?? "";
        Merges = new MergesReader(Vocabulary, prefix, what => Error("merges", what)).Read(ref cursor);
    }
}
