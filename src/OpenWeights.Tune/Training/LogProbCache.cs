using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Objectives.Preferences;
using OpenWeights.Tune.Objectives.Stored;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training;

/// <summary>
/// Log-probabilities of a reference or teacher that are computed once, before training, and kept in a file by a hash of what they depend on: the
/// model's weights, the rows, the number of tokens and the temperature. Later runs read the file.
/// </summary>
internal sealed class LogProbCache
{
    // Incremented whenever the same model and rows would give another file.
    private const string Version = "log-probabilities 1";

    private readonly ComparedModel _model;
    private readonly LogProbStoreWriter _writer;
    private readonly ScalarType _dtype;
    private readonly IReadOnlyList<Device> _devices;
    private readonly int _tokensOfBatch;

    private LogProbCache(RunConfig config, ComparedModel model, LogProbStoreWriter writer, LogProbSettings settings, (ScalarType DType, IReadOnlyList<Device> Devices) computed, int tokensOfBatch)
    {
        (_model, _writer, _dtype, _devices, _tokensOfBatch) = (model, writer, computed.DType, computed.Devices, tokensOfBatch);
        IsTemporary = config.Data.Cache == "off";
        Path = PathOf(config, IsTemporary ? null : Key(settings), "logprobs");
    }

    /// <summary>Path of a file of what a reference or teacher computes once.</summary>
    /// <param name="config">The run.</param>
    /// <param name="key">Its hash; null for a temporary file.</param>
    /// <param name="kind">What it has: ending of the file, and name of the folder of such files.</param>
    internal static string PathOf(RunConfig config, string? key, string kind) => key is null
        ? System.IO.Path.Combine(System.IO.Path.GetTempPath(), $"owt-{Guid.NewGuid():N}.{kind}")
        : System.IO.Path.Combine(config.Data.CacheDir ?? System.IO.Path.Combine(System.IO.Path.GetDirectoryName(StoreCache.DefaultFolder)!, kind), $"{key}.{kind}");

    /// <summary>The file.</summary>
    internal string Path { get; }

    /// <summary>Whether the file is deleted after the run (data.cache: off).</summary>
    internal bool IsTemporary { get; }

    /// <summary>What the plan says of it.</summary>
    internal LogProbPlan Plan => new(Path, _model.Setting == "objective.teacher", _writer.Rows, _writer.Targets, _writer.Bytes, File.Exists(Path));

    /// <summary>The file of a run; null if it computes log-probabilities as it trains.</summary>
    /// <param name="draft">The run.</param>
    /// <param name="dtype">Data type of the computation.</param>
    /// <param name="vocabulary">Number of tokens of the trained model.</param>
    internal static LogProbCache? Of(RunDraft draft, ScalarType dtype, int vocabulary)
    {
        var (config, objective) = (draft.Config, draft.Config.Objective);
        if (draft.Compared is not { } model || !Serves(objective))
        {
            return null;
        }

        // The rows are known when the teacher has answered.
        if (draft.TeacherAnswers is { Plan.IsThere: false })
        {
            return null;
        }

        var settings = objective.Type == "distill"
            ? LogProbSettings.Of(objective.TeacherTopK!.Value, objective.Temperature ?? 1, vocabulary, model.VocabularySize)
            : new LogProbSettings();
        var tokens = config.Training.RowsAtOnce * draft.Data.Train.LongestRow;
        return new LogProbCache(config, model, new LogProbStoreWriter(Rows(draft), settings), settings, (dtype, draft.ModelDevices.All), tokens);
    }

    /// <summary>Whether log-probabilities are computed before training: what is asked about is known, and they never change.</summary>
    /// <param name="objective">The objective.</param>
    internal static bool Serves(ObjectiveSection objective) => objective.Type == "distill" ? objective is { TeacherTopK: not null, Lmbda: 0 } : objective.PrecomputeRefLogProbs;

    /// <summary>Computes the file if it is not there.</summary>
    /// <param name="listener">Receives the run's events.</param>
    /// <exception cref="IOException">The file cannot be written.</exception>
    internal void Ensure(IRunListener listener)
    {
        if (File.Exists(Path))
        {
            return;
        }

        listener.Stage(string.Create(CultureInfo.InvariantCulture, $"computing the {(_model.Setting == "objective.teacher" ? "teacher" : "reference")}'s log-probabilities of {_writer.Targets:N0} tokens ({Math.Max(1, _writer.Bytes >> 20):N0} MiB in {Path})"));
        using var nothing = no_grad();
        using var model = _model.Load(_dtype, _devices);
        _ = model.Run(m =>
        {
            _writer.Write(Path, m, _tokensOfBatch);
            return true;
        });
    }

    /// <summary>Opens the file.</summary>
    internal LogProbStore Open()
    {
        File.SetLastAccessTimeUtc(Path, DateTime.UtcNow);
        return LogProbStore.Open(Path);
    }

    // KTO also asks about the prompts of a step with the answers of other rows.
    private static IEnumerable<IReadOnlyList<TokenRow>> Rows(RunDraft draft)
    {
        if (draft.TeacherAnswers is { } answered)
        {
            using var answers = answered.Open(isLast: false);
            yield return [.. draft.Data.Train.Documents.Select(answers.Of)];
        }
        else
        {
            yield return draft.Data.Train.Documents;
        }

        if (draft.Data.Eval is { } eval)
        {
            yield return eval.Documents;
        }

        if (draft.Config.Objective is not { Type: "kto", LossType: null or { Values: ["kto"] } })
        {
            yield break;
        }

        for (var step = 0L; step < draft.TotalSteps; step++)
        {
            yield return KtoObjective.Mismatched([.. draft.Rows.Of(step).SelectMany(static b => b)]);
        }

        if (draft.Data.Eval is { } asked)
        {
            yield return KtoObjective.Mismatched([.. asked.Rows]);
        }
    }

    private string Key(LogProbSettings settings)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{Version}\n{_model.Fingerprint()}\n{settings}\n{_dtype}\n")));
        foreach (var row in _writer.Hashes)
        {
            hash.AppendData(BitConverter.GetBytes(row));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset())[..40];
    }
}

/// <summary>Log-probabilities that a run computes once and keeps.</summary>
/// <param name="Path">The file.</param>
/// <param name="OfTeacher">Whether they are a teacher's, or a reference's.</param>
/// <param name="Rows">Number of rows.</param>
/// <param name="Targets">Number of tokens.</param>
/// <param name="Bytes">Size of the file.</param>
/// <param name="IsThere">Whether the file is there already.</param>
internal sealed record LogProbPlan(string Path, bool OfTeacher, int Rows, long Targets, long Bytes, bool IsThere);
