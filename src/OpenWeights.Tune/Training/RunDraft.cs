using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Quantized;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Evaluation;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Schedules;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training.Memory;
using OpenWeights.Tune.Training.Ranks;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training;

/// <summary>A run before its weights are loaded: its complete settings, its rows, and its estimated memory.</summary>
internal sealed class RunDraft
{
    private RunDraft(RunConfig config, string modelPath, ModelFolder folder, RowTokenizer tokenizer, RunData data, RunMemory memory, IReadOnlyCollection<string> said, RunOptions options)
    {
        (Config, ModelPath, Folder, RowTokenizer, Data, Memory, Said, Options) = (config, modelPath, folder, tokenizer, data, memory, said, options);
        var kind = ObjectiveKinds.Of(config.Objective);
        var accumulation = checked(config.Training.GradientAccumulationSteps * options.Ranks.Size);
        Sampling = SampledRun.Plan(config, data, options.Ranks.Size);
        Rows = Sampling is not null ? SampledRun.Rows(config, data, Sampling) : new BatchSampler(
            data.Train.Rows, config.Data.Shuffle, config.Seed, config.Training.RowsAtOnce, accumulation, config.Data.GroupByLength && !config.Data.Packs,
            kind.RowsPerExample, keepsOrder: kind.Rows == RowKind.Labelled);
        TotalSteps = RunDefaults.TotalSteps(config.Training, Rows.StepsPerEpoch);
        Compared = kind.ComparesWithReference(config.Objective) ? ComparedModel.Of(config, modelPath, options.SettingsAlone) : null;
        TeacherAnswers = options.SettingsAlone ? null : TeacherAnswerCache.Of(this, memory.Computed);
        LogProbs = options.SettingsAlone ? null : LogProbCache.Of(this, memory.Computed, memory.VocabularySize);
    }

    /// <summary>The complete config, including defaults that depend on the data.</summary>
    public RunConfig Config { get; }

    /// <summary>The rows of the run.</summary>
    public RunData Data { get; }

    /// <summary>Tokenizes rows, and holds the tokenizer.</summary>
    public RowTokenizer RowTokenizer { get; }

    /// <summary>Estimated and available memory.</summary>
    public RunMemory Memory { get; }

    internal string ModelPath { get; }

    /// <summary>Warnings about the adapter that were already given.</summary>
    internal IReadOnlyCollection<string> Said { get; }

    /// <summary>The head of labels that is trained; null for a language model.</summary>
    internal LabelHead? Labels { get; private init; }

    /// <summary>The options that the run was prepared with.</summary>
    internal RunOptions Options { get; }

    /// <summary>The ranks of the run.</summary>
    internal RankGroup Ranks => Options.Ranks;

    internal ModelFolder Folder { get; }

    /// <summary>The devices of the model.</summary>
    internal ModelDevices ModelDevices => Memory.Devices;

    /// <summary>Device of batches and losses.</summary>
    internal Device Device => ModelDevices.Last;

    internal BatchSampler Rows { get; }

    /// <summary>How sampled answers are shared out among steps; null for an objective without them.</summary>
    internal SamplingPlan? Sampling { get; }

    /// <summary>What the objective is made from, without its reference.</summary>
    internal ObjectiveContext ObjectiveContext => new(Config)
    {
        Tokenizer = RowTokenizer,
        EndTokens = RowTokenizer.HasTokenizer ? EndTokens.Of(Folder, RowTokenizer.Tokenizer) : Folder.EosTokenIds,
        Sampling = Sampling,
        Ranks = Ranks,
        RewardModel = section => RewardModel.Load(section, Devices.DType(Config.Model.Dtype), Device),
    };

    internal long TotalSteps { get; }

    /// <summary>The model that the policy is compared with; null for none.</summary>
    internal ComparedModel? Compared { get; }

    /// <summary>Answers that the teacher samples once; null if it is not asked.</summary>
    internal TeacherAnswerCache? TeacherAnswers { get; }

    /// <summary>Log-probabilities that are computed once; null if the run computes them as it trains, or the teacher has not answered yet.</summary>
    internal LogProbCache? LogProbs { get; private set; }

    /// <summary>The plan of the run.</summary>
    public RunPlan Plan => field ??= new()
    {
        Config = Config,
        ModelType = Memory.ModelType,
        BaseParameters = Memory.BaseParameters,
        TrainedParameters = Memory.TrainedParameters,
        DType = Memory.DType,
        BaseQuantization = QuantizedModel.Of(Folder.Config, Folder.FolderPath)?.Description,
        Device = Memory.Device,
        Train = Data.Train.Report,
        Eval = Data.Eval?.Report,
        Padding = Rows.Padding(),
        StepsPerEpoch = Rows.StepsPerEpoch,
        TotalSteps = TotalSteps,
        StepsDone = 0,
        Ranks = Ranks.Size,
        Memory = Memory.Estimate,
        Start = Memory.Start,
        TeacherAnswers = TeacherAnswers?.Plan,
        LogProbs = LogProbs?.Plan,
        MemoryNeeded = Memory.Needed,
        Room = Memory.Room,
    };

    /// <summary>Reads and checks everything of a run except its weights.</summary>
    /// <param name="config">The config.</param>
    /// <param name="listener">Receives the run's events.</param>
    /// <param name="options">Options.</param>
    /// <exception cref="ConfigException">The config is invalid; the exception lists all problems.</exception>
    /// <exception cref="InvalidDataException">The model's config or the data is invalid.</exception>
    /// <exception cref="IOException">A file is missing or cannot be read.</exception>
    public static RunDraft Read(RunConfig config, IRunListener listener, RunOptions options = default)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(listener);
        SettingCheck.Require(config);
        if (!options.Ranks.IsAlone)
        {
            RankRules.Require(config);
            RunAgreement.OnConfig(options.Ranks, config);
            listener = options.Ranks.IsFirst ? listener : SilentRank.Instance;
            if (config.Parallel.Shard is "gradients" or "parameters" && config.Training.Checkpointing == ActivationCheckpointing.None)
            {
                listener.Warn($"parallel.shard: {config.Parallel.Shard} computes each layer again in the backward pass; training.activation_checkpointing is block.");
                config = config with { Training = config.Training with { ActivationCheckpointing = "block" } };
            }

            if (config.Parallel.Shard == "parameters" && config.Evaluation.GenerateRows > 0)
            {
                listener.Warn("parallel.shard: parameters generates no answers while training, because no rank has the whole model; evaluation.generate_rows is 0.");
                config = config with { Evaluation = config.Evaluation with { GenerateRows = 0 } };
            }
        }

        // Classes of the user's are found, or not, before anything is read.
        (_, _, _) = (ObjectiveKinds.Of(config.Objective), RateSchedules.Of(config.Training), AnswerMetric.Of(config.Evaluation));

        // A missing GPU is reported immediately; otherwise torch, which takes time to load, is first used after the data is read.
        var devices = config.Model.Device.Is("auto") || config.Model.Device.Is("cpu") ? null : Devices.Find(config.Model.Device.Values);
        if (options.Resume && RunFolder.StartedWith(config.OutputDir) is { } started)
        {
            config = RunDefaults.Continue(config, started, (RunManifest.Ranks(config.OutputDir), options.Ranks.Size));
        }

        var modelPath = NewTokens.Folder(config.Model, Configuration.ModelPath.Resolve(config.Model.Path));
        config = NewTokens.Complete(config, modelPath);
        var folder = ModelFolder.Open(modelPath);
        var decoder = ModelLoader.ReadConfig(folder);
        TrainedModel.CheckQuantized(config, folder);
        if (!options.SettingsAlone)
        {
            using var weights = folder.OpenWeights();
            decoder = ModelLoader.Check(folder, weights, out _);
        }

        var kind = ObjectiveKinds.Of(config.Objective);
        _ = LabelHeads.Expected(config, decoder);
        config = EmbeddingChoice.Complete(config, modelPath);
        if (config.Objective is { Type: "distill" })
        {
            VocabularyCheck.Require(modelPath, ComparedModel.Of(config, modelPath, options.SettingsAlone).Folder);
        }

        listener.Stage("reading the data");
        var tokenizer = new RowTokenizer(modelPath, config.Data.TrainOn, NamedTemplates.Of(config, modelPath), NamedTemplates.NameOf(config, modelPath)) { Kind = kind.RowsOf(config.Objective), QueryPrompt = config.Objective.QueryPrompt ?? "", DocumentPrompt = config.Objective.DocumentPrompt ?? "" };
        var (read, vocabulary) = (config, Math.Max(Vocabulary(config.Adapter, decoder), NewTokens.Rows(config.Model, modelPath)?.Vocabulary ?? 0));
        var limit = ContextLimit.Of(decoder, config.Model.MaxPositions);
        var data = options.Ranks.OncePerHost("reading the data", () => RunData.Read(read.Data, tokenizer, vocabulary, read.Seed, kind.RowsOf(read.Objective), limit));
        foreach (var warning in data.Warnings.Concat(ObjectiveRules.Warnings(config.Objective)))
        {
            listener.Warn(warning);
        }

        var labels = LabelHeads.Of(config, folder, decoder, data.Labels, tokenizer);
        decoder = decoder.With(labels);
        if (kind.Head == HeadKind.Labels)
        {
            config = config with { Objective = config.Objective with { Labels = labels!.Names } };
        }

        if (kind.Head == HeadKind.Vocabulary && config.Adapter is not null && !data.Train.Report.IsTokenized && UnknownTurnEnd(tokenizer.Tokenizer, folder) is { } turnEnd)
        {
            listener.Warn(turnEnd);
        }

        if (PreferenceWatch.Balance(config.Objective, data.Train) is { } balance)
        {
            listener.Warn(balance);
        }

        (config, data) = RunDefaults.Fit(config, data, options.Ranks.Size);
        Devices.UseAllCores(options.Ranks.OnThisHost());
        devices ??= Devices.Find(config.Model.Device.Values);
        var device = devices[^1];
        config = config with { Training = config.Training with { WorstBatchFirst = config.Training.WorstBatchFirst ?? device.type == TorchSharp.DeviceType.CUDA } };
        var dtype = Devices.DType(config.Model.Dtype) ?? ModelLoader.AutomaticDType(folder, device);
        var said = new HashSet<string>();
        var memory = new RunMemory(config, folder, decoder, devices, dtype, SampledRun.LongestRow(config, data, decoder), data.Train.Rows.Count, warning => _ = said.Add(warning), ComparedModel.Held(config, modelPath, options.SettingsAlone), options.Ranks.Size, SampledRun.LongestPrompt(config, data)) { Held = options.Held };
        foreach (var warning in said)
        {
            listener.Warn(warning);
        }

        var draft = new RunDraft(config, modelPath, folder, tokenizer, data, memory, said, options) { Labels = labels };
        if (!options.SettingsAlone)
        {
            RunAgreement.OnInputs(draft);
        }

        return draft;
    }

    /// <summary>Computes what a reference or teacher computes once, before training.</summary>
    /// <param name="listener">Receives the run's events.</param>
    /// <exception cref="IOException">A file cannot be written.</exception>
    internal void Precompute(IRunListener listener)
    {
        if (TeacherAnswers is { } answers)
        {
            answers.Ensure(listener);
            LogProbs ??= LogProbCache.Of(this, Memory.Computed, Memory.VocabularySize);
        }

        LogProbs?.Ensure(listener);
    }

    /// <summary>Loads the weights and sets up the trained parameters.</summary>
    /// <param name="listener">Receives the run's events.</param>
    /// <exception cref="InvalidDataException">The model or the adapter is invalid.</exception>
    /// <exception cref="IOException">A file is missing or cannot be read.</exception>
    public ITrainedModel LoadModel(IRunListener listener)
    {
        ArgumentNullException.ThrowIfNull(listener);
        listener = Ranks.IsFirst ? listener : SilentRank.Instance;
        listener.Stage("reading the model");
        var trained = TrainedModel.Load(Config, ModelPath, ModelDevices with { Weights = Ranks.IsAlone || Config.Parallel.Shard != "parameters" ? null : new SharedWeights(Ranks) }, warning =>
        {
            if (!Said.Contains(warning))
            {
                listener.Warn(warning);
            }
        }, () =>
        {
            listener.Stage("computing the adapter's start");
            return new TrainingStartData(Rows, Config.Adapter!.InitSamples, Device);
        }, Labels);
        if (Config.Training.Offload != "none" && Device.type == TorchSharp.DeviceType.CPU)
        {
            listener.Warn("training.offload has no effect on the CPU.");
        }

        return trained;
    }

    /// <summary>Problem for a run that does not fit into the available memory, with the smallest change that helps; null if it fits.</summary>
    public ConfigProblem? MemoryProblem => Memory.Fits ? null : new ConfigProblem("", "", $"{Memory.TooLarge} Use owt train --force to train anyway.");

    /// <summary>Throws if the run does not fit into the available memory.</summary>
    /// <exception cref="ConfigException">It does not fit.</exception>
    public void RequireMemory()
    {
        if (MemoryProblem is { } problem)
        {
            throw new ConfigException([problem]);
        }
    }

    // An adapter may bring more tokens than the base has.
    private static int Vocabulary(AdapterSection? adapter, DecoderConfig decoder) => Math.Max(
        decoder.VocabularySize, adapter?.Path is { } path ? Adapters.PeftFolder.VocabularySize(path, decoder) : adapter?.VocabSize ?? 0);

    // An end-of-turn token that an inference server does not know.
    private static string? UnknownTurnEnd(ITokenizer tokenizer, ModelFolder folder) =>
        EndTokens.OfTemplate(tokenizer) is { } turn && !folder.EosTokenIds.Contains(turn) && turn != tokenizer.EosToken
            ? $"the chat template ends turns with {tokenizer.Decode([turn], skipSpecialTokens: false)}, which neither the tokenizer nor the base model's configs declare as an end token. It ends answers here and in a merged model, but a server that applies the adapter to the base model must be configured with it."
            : null;
}
