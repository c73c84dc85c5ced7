using System.Globalization;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Quantized;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Optimizers;
using OpenWeights.Tune.Quantization;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Memory;

/// <summary>
/// Estimates a run's memory from config.json and its settings, before any weight is loaded, and compares it with the available memory.
/// </summary>
internal sealed class RunMemory
{
    // Copies of a chunk of logits that objectives besides cross entropy hold, with what is watched.
    private const int ScoresOfOtherLosses = 3;

    private readonly RunConfig _config;
    private readonly ModelFolder _folder;
    private readonly DecoderConfig _decoder;
    private readonly Device _device;
    private readonly IReadOnlyList<Device> _devices;
    private readonly int _ranks;
    private readonly ScalarType _dtype;
    private readonly int _longestRow;
    private readonly int _longestPrompt;
    private readonly int _rows;
    private readonly ComparedModel? _compared;

    internal RunMemory(RunConfig config, ModelFolder folder, DecoderConfig decoder, IReadOnlyList<Device> devices, ScalarType dtype, int longestRow, int rows = int.MaxValue, Action<string>? warn = null, ComparedModel? compared = null, int ranks = 1, int longestPrompt = 0)
    {
        _ranks = ranks;
        (_compared, _longestPrompt) = (compared, longestPrompt);
        (_config, _folder, _decoder, _device, _dtype, _longestRow, _rows) = (config, folder, decoder, devices[^1], dtype, longestRow, rows);
        _devices = devices;
        using var meta = CreateMeta(config, warn);
        Estimate = Of(meta, config, longestRow);
        Loads = LoadsOf(meta, config, longestRow);
        Rank = RankOf(meta, config, longestRow);
        ModelType = decoder.ModelType;
        BaseParameters = meta.Model.ParameterCount;
        TrainedParameters = meta.Parameters.Sum(static p => p.Parameter.numel());
        Room = AvailableMemory.Of(devices);
        if (config.Adapter is { Path: null } section && TrainedModel.Settings(section) is LoraConfig lora)
        {
            Start = StartCost.Of(meta.Model, lora, Math.Min(section.InitSamples, rows), config.Training);
        }
    }

    /// <summary>The estimated memory.</summary>
    public MemoryEstimate Estimate { get; }

    /// <summary>What the adapter's start costs; null for nothing worth a word.</summary>
    public StartCost? Start { get; }

    /// <summary>The available memory; null if unknown.</summary>
    public AvailableMemory? Room { get; }

    /// <summary>Bytes of the model that are in memory already, and are not in the available memory.</summary>
    internal long Held { get; init; }

    /// <summary>What the run needs of this memory at its peak: in training, or before it, where the adapter's start takes more.</summary>
    public long Needed => Rank is { } rank ? rank.Total - Held : Peak(Estimate, _config);

    /// <summary>The memory of this rank, where several share out more than rows; otherwise null.</summary>
    public RankMemory? Rank { get; }

    /// <summary>What the adapter's start needs of this memory, with the model; 0 for none worth a word.</summary>
    public long NeededByStart => Start is null ? 0 : OfStart(Estimate, Start);

    /// <summary>Whether the run fits; true if unknown.</summary>
    public bool Fits => Loads?.Fit ?? (Room is null || Needed <= Room.Bytes * AvailableMemory.Share);

    /// <summary>What each device holds of a run whose layers are on several; empty for one device.</summary>
    public IReadOnlyList<DeviceLoad> PerDevice => Loads?.Loads ?? [];

    /// <summary>How the layers are spread over several devices; null for one.</summary>
    internal DeviceLoads? Loads { get; }

    /// <summary>The devices of the model.</summary>
    internal ModelDevices Devices => new(_devices, Loads?.Counts);

    /// <summary>Family of the model.</summary>
    public string ModelType { get; }

    /// <summary>Number of parameters of the base model.</summary>
    public long BaseParameters { get; }

    /// <summary>Number of trained parameters.</summary>
    public long TrainedParameters { get; }

    /// <summary>Data type of the computation.</summary>
    internal ScalarType Computed => _dtype;

    /// <summary>Number of tokens that the model knows.</summary>
    internal int VocabularySize => _decoder.VocabularySize;

    /// <summary>Data type of the base model.</summary>
    public string DType => _dtype.ToString().ToLowerInvariant();

    /// <summary>The device.</summary>
    public string Device => Loads is null ? _device.ToString() : new LayerPlacement(_devices, Loads.Counts, _decoder).ToString();

    /// <summary>Estimates a run without its weight files, with rows of data.max_length.</summary>
    /// <param name="config">The run.</param>
    /// <param name="modelPath">A folder with the model's config.json.</param>
    /// <exception cref="InvalidDataException">The family is unknown, or the config is invalid.</exception>
    public static RunMemory OfLongest(RunConfig config, string modelPath)
    {
        ArgumentNullException.ThrowIfNull(config);
        var folder = ModelFolder.Open(modelPath);
        var devices = Torch.Devices.Find(config.Model.Device.Values);
        var decoder = ModelLoader.ReadConfig(folder);
        return new RunMemory(
            config, folder, decoder.With(LabelHeads.Expected(config, decoder)), devices, Torch.Devices.DType(config.Model.Dtype) ?? ModelLoader.AutomaticDType(folder, devices[^1]), SampledRun.LongestRow(config, decoder),
            compared: ComparedModel.Held(config, modelPath, settingsAlone: true), longestPrompt: config.Data.MaxLength);
    }

    /// <summary>The memory of one of several ranks for each kind of sharing (parallel.shard), each with the run's micro-batches.</summary>
    /// <param name="ranks">Number of ranks.</param>
    /// <param name="onGpu">Whether the ranks are GPUs, whatever this machine has: without the program, and with whole master copies.</param>
    public IReadOnlyList<RankMemory> OfRanks(int ranks, bool onGpu)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(ranks, 1);
        using var meta = CreateMeta(_config);
        return [.. RankMemory.Shards.Select(shard => RankOf(meta, _config, _longestRow, shard, ranks, onGpu))];
    }

    private RankMemory? RankOf(ITrainedModel meta, RunConfig config, int longestRow) =>
        _ranks > 1 && config.Parallel.Shard != "none" ? RankOf(meta, config, longestRow, config.Parallel.Shard, _ranks, onGpu: false) : null;

    private RankMemory RankOf(ITrainedModel meta, RunConfig config, int longestRow, string shard, int ranks, bool onGpu)
    {
        // Layers are recomputed where gradients or weights are shared out.
        var checkpointing = shard is "gradients" or "parameters" && config.Training.Checkpointing == ActivationCheckpointing.None ? ActivationCheckpointing.Block : config.Training.Checkpointing;
        var costs = CostsOf(meta, config, longestRow, checkpointing, onGpu);
        var trained = LayerBytes.Sum(_decoder, meta.Parameters.Select(static p => (p.Name, p.Parameter.numel())));
        return RankMemory.Of(shard, ranks, costs, trained, config.Training.GradientAccumulationSteps, _decoder.TiedEmbeddings && _decoder.Labels is null) with
        {
            Other = ComparedBytes(config) + (onGpu || _device.type != DeviceType.CPU ? 0 : Estimate.Program),
        };
    }

    /// <summary>The smallest change of settings with which the run fits; null if it already fits, or no known change is enough.</summary>
    public MemoryChange? Change() => Fits ? null : MemoryChange.Find(_config, _longestRow, Fit);

    /// <summary>Message that the run does not fit, with the smallest change that helps.</summary>
    public string TooLarge
    {
        get
        {
            var what = string.Create(CultureInfo.InvariantCulture, $"the run needs about {Size(Needed)}, and {Size(Room?.Bytes ?? 0)} of {Room?.Where} are available, of which it may use {100 * AvailableMemory.Share:F0} %.");
            if (Loads?.Loads.Where(static l => l.Free is not null).MaxBy(static l => l.Bytes / (double)l.Free!) is { } fullest)
            {
                what += string.Create(CultureInfo.InvariantCulture, $" {fullest.Device} would hold {Size(fullest.Bytes)} and has {Size(fullest.Free!.Value)}.");
            }

            return what + (Change() is { } change
                ? $" The smallest change that fits: {string.Join(' ', change.Settings)} (about {Size(Peak(change.Estimate, _config))})."
                : " A smaller micro-batch, shorter rows, activation_checkpointing and quantization are not enough; use a smaller model, or a machine with more memory.");
        }
    }

    private static string Size(long bytes) => bytes >= 10L << 30
        ? string.Create(CultureInfo.InvariantCulture, $"{bytes / (double)(1 << 30):F1} GiB")
        : bytes >= 10L << 20 ? string.Create(CultureInfo.InvariantCulture, $"{bytes >> 20:N0} MiB")
        : string.Create(CultureInfo.InvariantCulture, $"{bytes >> 10:N0} KiB");

    /// <summary>The change, if the run fits with it.</summary>
    private MemoryEstimate? Fit(RunConfig config, int longestRow)
    {
        // Weights that are quantized already are not quantized again.
        if (config is { Quantization: not null, Model.KeepsQuantized: true } && QuantizedModel.Of(_folder.Config, _folder.FolderPath) is not null)
        {
            return null;
        }

        using var meta = CreateMeta(config);
        var estimate = Of(meta, config, longestRow);
        if (LoadsOf(meta, config, longestRow) is { } loads)
        {
            return loads.Fit ? estimate : null;
        }

        if (RankOf(meta, config, longestRow) is { } rank)
        {
            return rank.FitsInto(Room!.Bytes) ? estimate : null;
        }

        return Peak(estimate, config) <= Room!.Bytes * AvailableMemory.Share ? estimate : null;
    }

    private ITrainedModel CreateMeta(RunConfig config, Action<string>? warn = null) => TrainedModel.CreateMeta(config, _folder, _decoder, _dtype, _device, warn);

    // A micro-batch has at most as many rows as there are; shorter rows may be split or packed into another number.
    private int Rows(RunConfig config, int longestRow)
    {
        var rows = config.Training.RowsAtOnce * ObjectiveKinds.Of(config.Objective).RowsPerExample;
        return longestRow < _longestRow ? rows : Math.Min(rows, _rows);
    }

    private static int Scores(RunConfig config) => config.Objective.Type == "sft" ? 0 : ScoresOfOtherLosses;

    private MemoryEstimate Of(ITrainedModel meta, RunConfig config, int longestRow)
    {
        var estimate = MemoryEstimate.Of(
            meta, Rows(config, longestRow), longestRow, OptimizerBytes(meta.Parameters, config.Training), config.Training.GradientAccumulationSteps > 1, config.Training.Checkpointing, scores: Scores(config));
        return estimate with { Compared = ComparedBytes(config), Sampling = SamplingOf(meta, config, longestRow)?.Total ?? 0 };
    }

    // What a run holds by layers.
    private RunCosts CostsOf(ITrainedModel meta, RunConfig config, int longestRow, ActivationCheckpointing checkpointing, bool onGpu = false) => RunCosts.Of(
        meta, parameters => OptimizerBytes(parameters, config.Training, onGpu) - OffloadedBytes(config, parameters),
        MemoryEstimate.ActivationsOf(meta.Model, meta.ResultName == "adapter", Rows(config, longestRow), longestRow, checkpointing, Scores(config)).AtLeast(SamplingOf(meta, config, longestRow)));

    private SamplingMemory? SamplingOf(ITrainedModel meta, RunConfig config, int longestRow) => SamplingMemory.Of(meta.Model, config, Math.Min(_longestPrompt, longestRow));

    private DeviceLoads? LoadsOf(ITrainedModel meta, RunConfig config, int longestRow)
    {
        if (_devices.Count == 1)
        {
            return null;
        }

        // A reference or teacher is spread like the model.
        var (costs, compared) = (CostsOf(meta, config, longestRow, config.Training.Checkpointing), ComparedBytes(config));
        var share = costs.Weights.Total == 0 ? 0 : compared / (double)costs.Weights.Total;
        return DeviceLoads.Of(costs with { Weights = costs.Weights.Times(1 + share) }, _devices, Room is null ? null : ModelDevices.Free(_devices));
    }

    // State of the optimizer that is not on the GPU.
    private long OffloadedBytes(RunConfig config, IReadOnlyList<TrainedParameter> parameters) =>
        _device.type != DeviceType.CPU && (config.Training.Offload == "optimizer" || config.Training.Optimizer.StartsWith("paged_", StringComparison.Ordinal))
            ? OptimizerBytes(parameters, config.Training) - AverageBytes(config.Training, parameters.Sum(static p => p.Parameter.numel())) : 0;

    private long Peak(MemoryEstimate estimate, RunConfig config) => Math.Max(On(estimate, config), Start is null ? 0 : OfStart(estimate, Start)) - Held;

    // Before the first step there are no gradients of the adapter and no state of the optimizer; of a pass without gradients one layer's activations exist.
    private long OfStart(MemoryEstimate estimate, StartCost start) =>
        (_device.type == DeviceType.CPU ? estimate.Program : 0) + estimate.Weights + estimate.Compared + estimate.Adapter + start.Bytes
        + (start.HasBackward ? estimate.Activations : start.Rows > 0 ? estimate.Activations / _decoder.LayerCount : 0);

    // Settings of the objective may be among those that are changed to fit.
    private long ComparedBytes(RunConfig config) => _compared is null || LogProbCache.Serves(config.Objective) ? 0
        : (config.Objective.Type == "distill" ? _compared with { Quantization = QuantizationSettings.Of(config.Objective.TeacherQuantization) } : _compared).Bytes(_dtype, _device);

    /// <summary>The part of an estimate that is in the compared memory.</summary>
    internal long On(MemoryEstimate estimate) => On(estimate, _config);

    // On a GPU, the program itself and offloaded tensors do not use GPU memory.
    private long On(MemoryEstimate estimate, RunConfig config) =>
        _device.type == DeviceType.CPU ? estimate.Total : estimate.Total - estimate.Program - (config.Training.Offload == "optimizer" || config.Training.Optimizer.StartsWith("paged_", StringComparison.Ordinal) ? estimate.Optimizer - AverageBytes(config.Training, TrainedParameters) : 0);

    /// <summary>Size of an optimizer's state in bytes, from an optimizer on meta tensors.</summary>
    internal long OptimizerBytes(IReadOnlyList<TrainedParameter> parameters, TrainingSection training, bool onGpu = false)
    {
        using var scope = NewDisposeScope();
        var bytes = 0L;

        // Parameters of equal shape have equal state.
        foreach (var same in parameters.GroupBy(p => (string.Join(',', p.Parameter.shape), OptimizerKinds.IsProjected(p, training))))
        {
            using var parameter = new Parameter(empty(same.First().Parameter.shape, float32, META));
            using var optimizer = OptimizerKinds.Create([same.First() with { Parameter = parameter }], training with { Offload = "none" });
            bytes += same.Count() * optimizer.State.Sum(static s => s.State.numel() * s.State.element_size());
            if (training.LowPrecision == "master_weights")
            {
                bytes += same.Sum(p => p.Parameter.numel() * MasterBytes(p.Parameter, onGpu));
            }
        }

        return bytes + AverageBytes(training, parameters.Sum(static p => p.Parameter.numel()));
    }

    // The moving average of the weights, float32 on their device.
    private static long AverageBytes(TrainingSection training, long elements) => training.Ema is null ? 0 : elements * 4;

    // A float32 master copy; for bfloat16 on a CPU only its lower half.
    private long MasterBytes(Tensor parameter, bool onGpu) => parameter.dtype == float32 ? 0
        : !onGpu && parameter.dtype == bfloat16 && _device.type == DeviceType.CPU ? 2 : 4;
}
