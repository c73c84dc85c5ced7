using System.Globalization;
using System.Text;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;

namespace OpenWeights.Tune.Models.Weights;

/// <summary>Compares a checkpoint's tensors with those that the config requires, before any is read.</summary>
internal static class WeightCheck
{
    private const int MaxListed = 20;

    // Old versions of transformers saved these beside the weights; they are computed from the config here.
    private static readonly string[] s_derived = ["rotary_emb.inv_freq", "attn.masked_bias", "attn.bias"];

    /// <summary>Throws one exception that lists all missing, misshapen and unexpected tensors.</summary>
    internal static void Run(CheckpointWeights checkpoint, DecoderConfig config)
    {
        var wanted = WeightList.Of(config);
        var unused = UnusedKeys(config);
        var problems = new List<string>();
        foreach (var (name, shape) in wanted)
        {
            if (!checkpoint.TryGetTensor(name, out var entry) && IsNewHead(name, config))
            {
                continue;
            }

            if (entry is null)
            {
                problems.AddRange(Missing(checkpoint, name, shape));
            }
            else if (!entry.Shape.SequenceEqual(shape.Select(static d => d.Size)))
            {
                var disagreeing = Enumerable.Range(0, Math.Max(shape.Length, entry.Shape.Count))
                    .Where(i => i >= shape.Length || i >= entry.Shape.Count || shape[i].Size != entry.Shape[i])
                    .Select(i => i < shape.Length ? $"{shape[i].Setting} is {shape[i].Size}" : "it has fewer dimensions");
                problems.Add($"misshapen: {Stored(checkpoint, name)} is {Sizes(entry.Shape)}, but config.json requires {Sizes(shape.Select(static d => d.Size))} ({string.Join(", ", disagreeing)})");
            }
        }

        foreach (var entry in checkpoint.Tensors)
        {
            var tiedCopy = (config.TiedEmbeddings || config.Labels is not null) && (entry.Name == config.Names.HeadWeight || (config.Labels is not null && entry.Name == $"{config.Names.Head}.bias"));
            if (!wanted.ContainsKey(entry.Name) && !tiedCopy && !IsOfPrediction(entry.Name, config) && !unused.Any(u => entry.Name.StartsWith(u, StringComparison.Ordinal)) && !s_derived.Any(d => entry.Name.EndsWith(d, StringComparison.Ordinal)))
            {
                problems.Add($"unexpected: {Stored(checkpoint, entry.Name)} {Sizes(entry.Shape)}");
            }
        }

        if (problems.Count > 0)
        {
            throw new InvalidDataException(Message(checkpoint.Location, problems));
        }
    }

    // A head that the files do not have yet.
    private static bool IsNewHead(string name, DecoderConfig config) => config.Labels is { IsNew: true } && name == $"{LabelHead.Module}.weight";

    // Starts of the names of key and value weights of layers that use another layer's keys and values: published checkpoints have them, and
    // transformers ignores them as well.
    private static List<string> UnusedKeys(DecoderConfig config) =>
    [
        .. Enumerable.Range(0, config.LayerCount).Where(i => config.LayerSettings(i).Mixer is AttentionSettings { KeysOf: not null }).SelectMany(i =>
        {
            var attention = (AttentionSettings)config.LayerSettings(i).Mixer!;
            var names = attention.Names;
            return new[] { names.Key, names.Value, names.KeyNorm }.Select(part => $"{config.Names.Layer(i)}.{attention.ModuleName}.{part}.");
        }),
    ];

    // Of an additional layer after the last, which predicts further tokens.
    private static bool IsOfPrediction(string name, DecoderConfig config) =>
        FamilyTable.Find(config.ModelType)?.HasPredictionLayers == true
        && $"{config.Names.Stack}.{config.Names.Layers}." is var prefix && name.StartsWith(prefix, StringComparison.Ordinal)
        && int.TryParse(name.AsSpan(prefix.Length, Math.Max(0, name.IndexOf('.', prefix.Length) - prefix.Length)), NumberStyles.None, CultureInfo.InvariantCulture, out var layer) && layer >= config.LayerCount;

    private static IEnumerable<string> Missing(CheckpointWeights checkpoint, string name, Dimension[] shape) =>
        checkpoint.MissingPieces.TryGetValue(name, out var pieces)
            ? pieces.Select(static piece => $"missing: {piece}")
            : [$"missing: {checkpoint.StoredName(name)} {Sizes(shape.Select(static d => d.Size))}"];

    // As the file has it.
    private static string Stored(CheckpointWeights checkpoint, string name) => checkpoint.PiecesOf(name) switch
    {
        [var only] when checkpoint.Stored.GetTensor(only.Stored).ElementCount == only.Count => only.Stored,
        [var part] => $"{name} (in {part.Stored})",
        var pieces => $"{name} (made of {pieces[0].Stored} and {pieces.Count - 1} more)",
    };

    private static string Message(string location, List<string> problems)
    {
        var text = new StringBuilder($"{location}: the weights do not match config.json ({problems.Count} tensors); check that the config belongs to these weights.");
        foreach (var problem in problems.Take(MaxListed))
        {
            _ = text.Append("\n  ").Append(problem);
        }

        return problems.Count > MaxListed ? text.Append($"\n  and {problems.Count - MaxListed} more").ToString() : text.ToString();
    }

    private static string Sizes(IEnumerable<long> shape) => $"[{string.Join(", ", shape)}]";
}
