using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Formats;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Comparison;

/// <summary>
/// Rows on which an exported model is compared with its source. They are kept as in their files, so that each reader tokenizes them itself.
/// </summary>
internal sealed class ComparedRows
{
    private const int MaxLooked = 4096;

    private ComparedRows(IReadOnlyList<(IRowFormat Format, DataRow Row)> rows, string from, string trainOn, int maxNewTokens) =>
        (Rows, From, TrainOn, MaxNewTokens) = (rows, from, trainOn, maxNewTokens);

    /// <summary>Describes where the rows come from.</summary>
    public string From { get; }

    /// <summary>Number of rows.</summary>
    public int Count => Rows.Count;

    internal IReadOnlyList<(IRowFormat Format, DataRow Row)> Rows { get; }

    /// <summary>data.train_on of the run; assistant if there is no run.</summary>
    internal string TrainOn { get; }

    internal int MaxNewTokens { get; }

    /// <summary>Reads the first rows of files.</summary>
    /// <param name="paths">Files, folders or glob patterns.</param>
    /// <param name="count">Maximum number of rows.</param>
    /// <param name="maxNewTokens">Maximum length of an answer, in tokens.</param>
    /// <exception cref="IOException">A file is missing.</exception>
    /// <exception cref="InvalidDataException">The format of the rows is unknown.</exception>
    public static ComparedRows OfFiles(IReadOnlyList<string> paths, int count, int maxNewTokens) =>
        new(Take([.. paths.Select(static p => new DataSource { Path = p })], count, null), string.Join(", ", paths), "assistant", maxNewTokens);

    /// <summary>Reads a run's eval rows, or its training rows if there are none.</summary>
    /// <param name="adapter">A folder inside the run folder: its adapter, best, or a checkpoint's weights.</param>
    /// <param name="count">Maximum number of rows.</param>
    /// <returns>Null if the folder does not belong to a run.</returns>
    /// <exception cref="IOException">A file of the run no longer exists.</exception>
    /// <exception cref="InvalidDataException">A file of the run cannot be read.</exception>
    public static ComparedRows? OfRun(string adapter, int count)
    {
        if (RunOf(adapter) is not { } run || RunFolder.StartedWith(run) is not { } config)
        {
            return null;
        }

        var maxNewTokens = config.Evaluation.MaxNewTokens;
        if (config.Data.Eval.Count > 0)
        {
            return new ComparedRows(Take(config.Data.Eval, count, null), "the run's eval rows", config.Data.TrainOn, maxNewTokens);
        }

        if (config.Data.EvalFraction == 0)
        {
            return new ComparedRows(Take(config.Data.Train, count, null), "training rows of the run, which has no eval rows", config.Data.TrainOn, maxNewTokens);
        }

        // Which rows were held out depends on their tokens.
        var folder = ModelFolder.Open(NewTokens.Folder(config.Model, ModelPath.Resolve(config.Model.Path)));
        var template = config.Model.ChatTemplate is { } named ? NamedTemplates.Find(named, folder.FolderPath) : null;
        var data = RunData.Read(config.Data, new RowTokenizer(folder.FolderPath, config.Data.TrainOn, template, NamedTemplates.NameOf(config, folder.FolderPath)), ModelLoader.ReadConfig(folder).VocabularySize, config.Seed);
        return new ComparedRows(Take(config.Data.Train, count, data.Eval!.WholePlaces.Take(MaxLooked).ToHashSet()), "held-out rows of the run", config.Data.TrainOn, maxNewTokens);
    }

    /// <summary>The first rows, without excluded ones.</summary>
    /// <param name="leftOut">Rows to exclude.</param>
    public ComparedRows Without(IReadOnlyList<LeftOutRow> leftOut)
    {
        ArgumentNullException.ThrowIfNull(leftOut);
        var places = leftOut.Select(static r => r.Place).ToHashSet();
        return places.Count == 0 ? this : new ComparedRows([.. Rows.Where(r => !places.Contains(r.Row.Place))], From, TrainOn, MaxNewTokens);
    }

    // The run folder that contains a folder, at most as deep as checkpoints/step-N/weights.
    private static string? RunOf(string adapter)
    {
        var folder = Path.GetFullPath(adapter);
        for (var up = 0; up < 4 && folder is not null; up++, folder = Path.GetDirectoryName(folder))
        {
            if (File.Exists(Path.Combine(folder, "config.yaml")) && File.Exists(Path.Combine(folder, "manifest.json")))
            {
                return folder;
            }
        }

        return null;
    }

    private static List<(IRowFormat Format, DataRow Row)> Take(IReadOnlyList<DataSource> sources, int count, HashSet<string>? places)
    {
        var rows = new List<(IRowFormat, DataRow)>();
        foreach (var source in sources)
        {
            IRowFormat? format = null;
            foreach (var row in DataFile.ReadGood(source).Take(source.Limit ?? int.MaxValue))
            {
                if (rows.Count == count)
                {
                    return rows;
                }

                format ??= RowFormats.Of(source, row, row);
                if (places?.Contains(row.Place) != false)
                {
                    rows.Add((format, row));
                }
            }
        }

        return rows;
    }
}
