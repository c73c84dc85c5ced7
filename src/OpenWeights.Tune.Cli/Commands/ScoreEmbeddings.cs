using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Objectives.Embeddings;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>owt score --embeddings: a line of JSON with the vector of each row's text.</summary>
internal static class ScoreEmbeddings
{
    private const int RowsAtOnce = 64;

    /// <summary>Embeds rows and prints them in order.</summary>
    /// <param name="session">The model.</param>
    /// <param name="rows">The rows.</param>
    /// <param name="areQueries">Whether they are queries, and not documents.</param>
    /// <exception cref="InvalidDataException">The model is of another kind, or a row is invalid.</exception>
    internal static int Write(ModelSession session, IEnumerable<DataRow> rows, bool areQueries)
    {
        var settings = session.Loaded.Embedding ?? throw new InvalidDataException(
            $"{session.Loaded.Folder.FolderPath} is no embedding model: it has no modules.json of sentence-transformers with a transformer, pooling and normalising. objective.type: embedding trains one.");
        var embedder = new TextEmbedder(session.Model, settings, new RowTokenizer(session.Loaded.Folder.FolderPath, "all", session.ChatTemplate));
        foreach (var chunk in rows.Chunk(RowsAtOnce))
        {
            Signals.Stop.ThrowIfCancellationRequested();
            var texts = chunk.Select(row => row.Has("input_ids") ? row.Ints("input_ids") : areQueries ? embedder.EncodeQuery(InputText.Of(row)) : embedder.EncodeDocument(InputText.Of(row))).ToList();
            foreach (var (ids, vector) in texts.Zip(embedder.Embed(texts)))
            {
                JsonLines.Write(new { input_ids = ids, embedding = vector });
            }
        }

        return ExitCode.Success;
    }
}
