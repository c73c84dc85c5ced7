using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Objectives.Distillation;
using OpenWeights.Tune.Objectives.Stored;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training;

/// <summary>
/// A teacher's answers to the rows' prompts (objective.seq_kd), sampled once, before training, and kept in a file by a hash of what they depend on: the
/// teacher's weights, the rows, and the settings of the sampling. Later runs read the file.
/// </summary>
internal sealed class TeacherAnswerCache
{
    // Incremented whenever the same teacher and rows would give other answers.
    private const string Version = "answers 1";

    private readonly ComparedModel _model;
    private readonly ObjectiveContext _context;
    private readonly IReadOnlyList<TokenRow> _rows;
    private readonly ulong[] _hashes;
    private readonly ScalarType _dtype;
    private readonly IReadOnlyList<Device> _devices;

    private TeacherAnswerCache(RunDraft draft, ComparedModel model, ScalarType dtype)
    {
        (_model, _context, _rows, _dtype, _devices) = (model, draft.ObjectiveContext, draft.Data.Train.Documents, dtype, draft.ModelDevices.All);
        _hashes = [.. TeacherAnswers.Hashes(_rows).Select(static r => r.Hash)];
        IsTemporary = draft.Config.Data.Cache == "off";
        Path = LogProbCache.PathOf(draft.Config, IsTemporary ? null : Key(), "answers");
    }

    /// <summary>The file.</summary>
    internal string Path { get; }

    /// <summary>Whether the file is deleted after the run (data.cache: off).</summary>
    internal bool IsTemporary { get; }

    /// <summary>What the plan says of it.</summary>
    internal TeacherAnswerPlan Plan => new(Path, _hashes.Length, File.Exists(Path));

    /// <summary>The file of a run; null if its teacher is not asked.</summary>
    /// <param name="draft">The run.</param>
    /// <param name="dtype">Data type of the computation.</param>
    internal static TeacherAnswerCache? Of(RunDraft draft, ScalarType dtype) =>
        draft is { Compared: { } model, Config.Objective: { Type: "distill", SeqKd: true } } ? new TeacherAnswerCache(draft, model, dtype) : null;

    /// <summary>Samples the answers if the file is not there.</summary>
    /// <param name="listener">Receives the run's events.</param>
    /// <exception cref="IOException">The file cannot be written.</exception>
    internal void Ensure(IRunListener listener)
    {
        if (File.Exists(Path))
        {
            return;
        }

        listener.Stage(string.Create(CultureInfo.InvariantCulture, $"sampling the teacher's answers to {_hashes.Length:N0} prompts"));
        using var nothing = no_grad();
        using var model = _model.Load(_dtype, _devices);
        AnswerStore.Write(Path, model.Run(m => TeacherAnswers.Sample(
            _context, m, _rows, done => listener.Stage(string.Create(CultureInfo.InvariantCulture, $"the teacher has answered {done:N0} of {_hashes.Length:N0} prompts")))));
    }

    /// <summary>Opens the file.</summary>
    /// <param name="isLast">Whether a temporary file is deleted with the result.</param>
    internal TeacherAnswers Open(bool isLast)
    {
        File.SetLastAccessTimeUtc(Path, DateTime.UtcNow);
        return new TeacherAnswers(AnswerStore.Open(Path), IsTemporary && isLast ? Path : null);
    }

    private string Key()
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(Encoding.UTF8.GetBytes($"{Version}\n{_model.Fingerprint()}\n{TeacherAnswers.Settings(_context)} {_dtype}\n"));
        foreach (var row in _hashes)
        {
            hash.AppendData(BitConverter.GetBytes(row));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset())[..40];
    }
}

/// <summary>Answers that a teacher samples once and that are kept.</summary>
/// <param name="Path">The file.</param>
/// <param name="Rows">Number of rows.</param>
/// <param name="IsThere">Whether the file is there already.</param>
internal sealed record TeacherAnswerPlan(string Path, int Rows, bool IsThere);
