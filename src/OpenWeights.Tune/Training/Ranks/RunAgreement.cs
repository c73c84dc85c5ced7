using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Distributed;

namespace OpenWeights.Tune.Training.Ranks;

/// <summary>What ranks must agree on before the first step: the config, the rows and the model. Each has read its own.</summary>
internal static class RunAgreement
{
    // Rows that are compared whole; of all others the length.
    private const int WholeRows = 64;

    // Of a weight file, its header and first weights.
    private const int ComparedBytes = 1 << 20;

    /// <summary>Ends all ranks unless they have read the same config.</summary>
    /// <param name="ranks">The ranks.</param>
    /// <param name="config">This rank's config.</param>
    /// <exception cref="RankFailedException">Ranks differ.</exception>
    internal static void OnConfig(RankGroup ranks, RunConfig config)
    {
        if (!ranks.IsAlone)
        {
            RankAgreement.Require(ranks, "the config", Hash(Encoding.UTF8.GetBytes(ConfigWriter.Write(config))));
        }
    }

    /// <summary>Ends all ranks unless they have the same rows and the same model.</summary>
    /// <param name="draft">The run.</param>
    /// <exception cref="RankFailedException">Ranks differ.</exception>
    internal static void OnInputs(RunDraft draft)
    {
        if (draft.Ranks.IsAlone)
        {
            return;
        }

        // Defaults may depend on the machine.
        RankAgreement.Require(draft.Ranks, "the config with its defaults", Hash(Encoding.UTF8.GetBytes(ConfigWriter.Write(draft.Config))));
        RankAgreement.Require(draft.Ranks, "the data", Rows(draft.Data.Train.Rows) + (draft.Data.Eval is { } eval ? $" and {Rows(eval.Rows)}" : ""));
        RankAgreement.Require(draft.Ranks, "the model", Model(draft.Folder));
    }

    /// <summary>Ends all ranks unless they train the same tensors: names, shapes and data types.</summary>
    /// <param name="ranks">The ranks.</param>
    /// <param name="trained">The model.</param>
    /// <exception cref="RankFailedException">Ranks differ.</exception>
    internal static void OnTensors(RankGroup ranks, ITrainedModel trained) => RankAgreement.RequireEach(
        ranks, "the trained tensors", [.. trained.Parameters.Select(static p => $"{p.Name} ({p.Parameter.dtype}, [{string.Join(", ", p.Parameter.shape)}])")]);

    private static string Rows(IReadOnlyList<TokenRow> rows)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        for (var i = 0; i < rows.Count; i++)
        {
            hash.AppendData(BitConverter.GetBytes(RowList.LengthOf(rows, i)));
        }

        foreach (var i in Enumerable.Range(0, Math.Min(WholeRows, rows.Count)).Select(i => (int)((long)i * rows.Count / Math.Min(WholeRows, rows.Count))))
        {
            hash.AppendData(BitConverter.GetBytes(RowHash.Of(rows[i])));
        }

        return string.Create(CultureInfo.InvariantCulture, $"{rows.Count} rows {Short(hash.GetHashAndReset())}");
    }

    private static string Model(ModelFolder folder)
    {
        using var weights = folder.OpenWeights();
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var buffer = new byte[ComparedBytes];
        foreach (var path in weights.FilePaths.Prepend(Path.Combine(folder.FolderPath, ModelFolder.ConfigName)).Where(File.Exists))
        {
            using var stream = File.OpenRead(path);
            hash.AppendData(BitConverter.GetBytes(stream.Length));
            hash.AppendData(buffer, 0, stream.ReadAtLeast(buffer, buffer.Length, throwOnEndOfStream: false));
        }

        return Short(hash.GetHashAndReset());
    }

    private static string Hash(byte[] bytes) => Short(SHA256.HashData(bytes));

    private static string Short(byte[] hash) => Convert.ToHexStringLower(hash)[..16];
}
