using System.Globalization;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Objectives;

namespace OpenWeights.Tune.Training;

/// <summary>The head of labels that a run trains: that of the model, of the adapter to go on from, of the settings, or of the data.</summary>
internal static class LabelHeads
{
    private const int MostNumbers = 1 << 16;

    /// <summary>The head of a run; null for an objective without.</summary>
    /// <param name="config">The run.</param>
    /// <param name="folder">Folder of the base model.</param>
    /// <param name="decoder">Its decoder config.</param>
    /// <param name="found">The classes of the data.</param>
    /// <param name="tokenizer">The tokenizer, for the padding token.</param>
    /// <exception cref="InvalidDataException">The model's head is another objective's, or it does not know a class of the data.</exception>
    internal static LabelHead? Of(RunConfig config, ModelFolder folder, DecoderConfig decoder, IReadOnlyList<string> found, RowTokenizer tokenizer)
    {
        if (Expected(config, decoder, found) is not { } labels)
        {
            return null;
        }

        labels = labels with { PadId = labels.PadId ?? LabelHead.Pad(folder.TextConfig) ?? Pad(tokenizer) ?? (folder.EosTokenIds is [var end, ..] ? end : null), IsNew = true, Seed = config.Seed };
        return found.FirstOrDefault(f => labels.IndexOf(f) < 0) is { } unknown
            ? throw new InvalidDataException($"the data has the class '{unknown}', which is none of the {labels.Names.Count} classes {(config.Objective.Labels.Count > 0 ? "of objective.labels" : "of the model")}: {string.Join(", ", labels.Names.Take(20))}. Correct the label, or name all classes in objective.labels and start from a model without a head of labels.")
            : labels;
    }

    /// <summary>The head of a run whose data is not read yet, of the right size where that is known; null for an objective without.</summary>
    /// <param name="config">The run.</param>
    /// <param name="decoder">The base model's decoder config.</param>
    /// <exception cref="InvalidDataException">The model's head is another objective's.</exception>
    internal static LabelHead? Expected(RunConfig config, DecoderConfig decoder) => Expected(config, decoder, ["0", "1"]);

    private static LabelHead? Expected(RunConfig config, DecoderConfig decoder, IReadOnlyList<string> found)
    {
        var kind = ObjectiveKinds.Of(config.Objective);
        if (kind.Head is HeadKind.Vocabulary or HeadKind.None)
        {
            decoder.RequireLanguage($"objective.type {config.Objective.Type}");
            return null;
        }

        var own = (config.Adapter?.Path is { } path && AdapterFolder.Find(path) is not null ? LabelFile.Of(path) : null) ?? decoder.Labels;
        if (kind.Head == HeadKind.Reward)
        {
            return own is null or { Names.Count: 1 } ? own ?? LabelHead.OfCount(1) : throw new InvalidDataException($"the model is a classifier with {own.Names.Count} labels ({string.Join(", ", own.Names.Take(8))}), and the objective reward needs one output; start from a language model or a reward model.");
        }

        var names = config.Objective.Labels;
        return own is { Names.Count: 1 } ? throw new InvalidDataException("the model is a reward model with one output, and the objective classification needs a label for each class; start from a language model or a classifier.")
            : names.Count == 0 ? own ?? OfData(found)
            : own is null || own.Names.Count == names.Count ? new LabelHead(names) { PadId = own?.PadId }
            : throw new InvalidDataException($"objective.labels names {names.Count} classes, but the model's head has {own.Names.Count}: {string.Join(", ", own.Names.Take(8))}. Leave objective.labels out, or start from a model without a head of labels.");
    }

    // Numbers are indexes; names are sorted, so that the order of the rows does not matter.
    private static LabelHead OfData(IReadOnlyList<string> found)
    {
        if (found.All(static f => int.TryParse(f, NumberStyles.None, CultureInfo.InvariantCulture, out _)))
        {
            var count = found.Max(static f => int.Parse(f, CultureInfo.InvariantCulture)) + 1;
            return count is >= 2 and <= MostNumbers ? LabelHead.OfCount(count) : throw new InvalidDataException($"the largest class number of the data is {count - 1}, for {found.Count} different ones; number the classes from 0, at least two of them, or name them in objective.labels.");
        }

        return found.Count > 1 ? new LabelHead([.. found.Order(StringComparer.Ordinal)])
            : throw new InvalidDataException($"the data has only one class, '{found[0]}'; classification needs at least two. Name all in objective.labels if the others are missing.");
    }

    private static int? Pad(RowTokenizer tokenizer) => !tokenizer.HasTokenizer ? null
        : tokenizer.Tokenizer is Tokenizer own ? own.PadToken ?? own.EosToken
        : tokenizer.Tokenizer.EosToken;
}
