using System.Globalization;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Kinds;

/// <summary>Settings of an AdaLoRA adapter, with PEFT's names.</summary>
[AdapterType("adalora", OwnBiases = "lora_only")]
internal sealed record AdaloraConfig : AdapterConfig
{
    /// <summary>init_r: rank at the start.</summary>
    [Setting("Rank of every module at the start.", Min = 1, Max = 65536)]
    public int InitR { get; init; } = 12;

    /// <summary>target_r: mean rank at the end.</summary>
    [Setting("Mean rank of the modules at the end.", Min = 0)]
    public int TargetR { get; init; } = 8;

    /// <summary>tinit: steps before ranks are taken away.</summary>
    [Setting("Steps before the first ranks are taken away.", Min = 0)]
    public int Tinit { get; init; }

    /// <summary>tfinal: steps at the end with the ranks that were kept.</summary>
    [Setting("Steps at the end that train the ranks that were kept.", Min = 0)]
    public int Tfinal { get; init; }

    /// <summary>deltaT: steps from one choice of ranks to the next.</summary>
    [Setting("Steps from one choice of ranks to the next.", Key = "deltaT", Min = 1)]
    public int DeltaT { get; init; } = 1;

    /// <summary>beta1: share of the earlier mean of a parameter's importance.</summary>
    [Setting("Share of the earlier steps in the mean of a parameter's importance.", Min = 0, Max = 1)]
    public double Beta1 { get; init; } = 0.85;

    /// <summary>beta2: share of the earlier mean of its uncertainty.</summary>
    [Setting("Share of the earlier steps in the mean of its uncertainty.", Min = 0, Max = 1)]
    public double Beta2 { get; init; } = 0.85;

    /// <summary>orth_reg_weight: weight of the loss that keeps A and B orthogonal.</summary>
    [Setting("Weight of the loss that keeps the rows of A and the columns of B orthogonal.", Min = 0)]
    public double OrthRegWeight { get; init; } = 0.5;

    /// <summary>total_step: number of steps; null for the run's.</summary>
    [Setting("Number of steps of the schedule of ranks; by default those of the run.", Min = 1)]
    public int? TotalStep { get; init; }

    /// <summary>lora_alpha: the update is scaled by lora_alpha / init_r.</summary>
    [Setting("Alpha; the update is scaled by lora_alpha / init_r.", Min = 0)]
    public double LoraAlpha { get; init; } = 8;

    /// <summary>lora_dropout: dropout probability on the adapter's input while training.</summary>
    [Setting("Dropout probability on the adapter's input while training.", Min = 0, Max = 0.999)]
    public double LoraDropout { get; init; }

    /// <summary>init_lora_weights: whether the update starts at zero.</summary>
    [Setting("Start with an update of zero; otherwise with a random one.")]
    public bool InitLoraWeights { get; init; } = true;

    /// <summary>rank_pattern: which ranks of each module were kept, by name of its lora_E; empty before the choice.</summary>
    public IReadOnlyDictionary<string, IReadOnlyList<bool>> Kept { get; init; } = new Dictionary<string, IReadOnlyList<bool>>();
}

/// <summary>
/// AdaLoRA (Zhang et al., 2023): W + s B diag(E) A, s = lora_alpha / (init_r + 1e-5); the least important of all modules' ranks are taken away
/// while training.
/// </summary>
internal sealed class AdaloraKind : ModuleKind<AdaloraConfig>
{
    internal override string PeftType => "ADALORA";

    private protected override string TensorPrefix => "lora_";

    private protected override IReadOnlyCollection<string> Unused =>
    [
        "use_dora", "use_rslora", "lora_bias", "use_qalora", "use_bdlora", "layer_replication", "trainable_token_indices", "alora_invocation_tokens", "arrow_config", "loftq_config",
        "target_parameters", "alpha_pattern", "kasa_config", "monteclora_config",
    ];

    private protected override IReadOnlyCollection<string> Harmless => ["r", "rank_pattern", "megatron_config", "megatron_core", "eva_config", "corda_config", "lora_ga_config", "qalora_group_size", "runtime_config", "ensure_weight_tying", "velora_config"];

    internal override AdapterConfig Read(JsonObject json, string path, out IReadOnlyList<string> unknown) =>
        (AdaloraConfig)base.Read(json, path, out unknown) with { Kept = new PeftSettings(json, path).Map("rank_pattern", (_, key, value) => Ranks(path, key, value)) };

    internal override JsonObject Write(PeftAdapter adapter, string? baseModel)
    {
        var json = base.Write(adapter, baseModel);
        if (adapter.Schedule is AdaloraSchedule schedule)
        {
            json["rank_pattern"] = !schedule.HasChosen ? null : new JsonObject(adapter.Parts.OfType<AdaloraPart>().Select(static p =>
                KeyValuePair.Create($"{p.Module}.lora_E", (JsonNode?)new JsonArray([.. p.Kept.Select(static k => (JsonNode)k)]))));
            json["total_step"] = schedule.TotalSteps;
        }

        return json;
    }

    private protected override PeftAdapter Attach(AdapterConfig config, AdapterTensors tensors, JsonObject? source)
    {
        var adapter = base.Attach(config, tensors, source);

        // Ranks that were chosen already are trained as they are.
        if (((AdaloraConfig)config).Kept.Count == 0)
        {
            adapter.Schedule = new AdaloraSchedule((AdaloraConfig)config, [.. adapter.Parts.OfType<AdaloraPart>()]);
        }

        return adapter;
    }

    private protected override IEnumerable<AdapterPart> Parts(AdaloraConfig config, ModuleSite site)
    {
        var layer = (LinearLayer)site.Target;
        long rank = config.Kept.TryGetValue($"{site.Module}.lora_E", out var kept) ? kept.Count(static k => k) : config.InitR;
        Fill Start(double deviation) => Fills.Normal(config.InitLoraWeights ? deviation : 1);
        yield return new AdaloraPart(
            site, config, site.Trained("lora_A", Start(0.02), rank, layer.InFeatures), site.Trained("lora_E", config.InitLoraWeights ? Fills.Zeros : Fills.Normal(1), rank, 1),
            site.Trained("lora_B", Start(0.02), layer.OutFeatures, rank));
    }

    private protected override bool IsIdle(AdaloraConfig config, StoredModule stored) => stored.IsZero("lora_E") || stored.IsZero("lora_B") || stored.IsZero("lora_A");

    private static IReadOnlyList<bool> Ranks(string path, string key, JsonNode? value) => value is JsonArray list && list.All(static v => v is JsonValue flag && flag.TryGetValue<bool>(out _))
        ? [.. list.Select(static v => v!.GetValue<bool>())]
        : throw new InvalidDataException($"{path}: {key}: a list of true and false is expected, not {value?.ToJsonString() ?? "null"}.");
}

/// <summary>The update of one layer.</summary>
/// <param name="site">The layer.</param>
/// <param name="config">The settings.</param>
/// <param name="a">A, [r, in].</param>
/// <param name="e">E, [r, 1].</param>
/// <param name="b">B, [out, r].</param>
internal sealed class AdaloraPart(ModuleSite site, AdaloraConfig config, Parameter a, Parameter e, Parameter b) : LinearPart(site, ("lora_A", a), ("lora_E", e), ("lora_B", b))
{
    private readonly Scalar _scale = (config.LoraAlpha > 0 ? config.LoraAlpha : config.InitR) / (config.InitR + 1e-5);
    private IReadOnlyList<bool>? _kept;

    /// <summary>A, [r, in].</summary>
    internal Parameter A => a;

    /// <summary>E, [r, 1].</summary>
    internal Parameter E => e;

    /// <summary>B, [out, r].</summary>
    internal Parameter B => b;

    /// <summary>Which ranks are kept; made on first use, since settings of a file can claim any rank until its tensors are checked.</summary>
    internal IReadOnlyList<bool> Kept
    {
        get => _kept ??= [.. Enumerable.Repeat(true, (int)a.size(0))];
        set => _kept = value;
    }

    /// <summary>Whether ranks may be taken away; the schedule then keeps what must be restored.</summary>
    internal bool IsScheduled { get; set; }

    /// <summary>Whether the file has the kept ranks alone.</summary>
    internal bool SavesKept { get; set; }

    internal override long KeptPerToken => (2 * a.size(0)) + (config.LoraDropout > 0 ? 2 * Target.InFeatures : 0);

    public override Tensor Apply(LinearLayer layer, Tensor input, Tensor output)
    {
        using var scope = NewDisposeScope();
        var states = input.Widened();
        states = IsTraining && config.LoraDropout > 0 ? nn.functional.dropout(states, config.LoraDropout, training: true) : states;
        return output.Plus(nn.functional.linear(nn.functional.linear(states, a.mul(e)), b).mul(_scale)).to(output.dtype).MoveToOuterDisposeScope();
    }

    internal override IEnumerable<(string Name, Tensor Tensor)> FileTensors()
    {
        if (!SavesKept)
        {
            return base.FileTensors();
        }

        using var nothing = no_grad();
        var kept = tensor([.. Kept.Select(static (k, i) => (k, i)).Where(static p => p.k).Select(static p => (long)p.i)], [Kept.Count(static k => k)], device: a.device);
        return [($"{Module}.lora_A", a.index_select(0, kept)), ($"{Module}.lora_E", e.index_select(0, kept)), ($"{Module}.lora_B", b.index_select(1, kept))];
    }

    internal override void Restore(Func<string, Tensor> read)
    {
        if (!IsScheduled)
        {
            base.Restore(read);
        }
    }

    private protected override Tensor MergedWeight(Tensor weight) => weight.Plus(b.mm(a.mul(e)).mul(_scale));

    private protected override void Dispose(bool disposing)
    {
        base.Dispose(disposing);
        _scale.Dispose();
    }
}

/// <summary>
/// Takes ranks away while an AdaLoRA adapter is trained, as PEFT's RankAllocator: after each step the importance of each parameter is
/// |p grad|, smoothed, times its smoothed deviation; a rank's importance is that of its E plus the means over its row of A and its column of B.
/// </summary>
internal sealed class AdaloraSchedule : IAdapterSchedule
{
    private readonly AdaloraConfig _config;
    private readonly IReadOnlyList<AdaloraPart> _parts;
    private readonly List<Averages> _averages = [];

    internal AdaloraSchedule(AdaloraConfig config, IReadOnlyList<AdaloraPart> parts)
    {
        (_config, _parts) = (config, parts);
        TotalSteps = config.TotalStep;
        foreach (var part in parts)
        {
            part.IsScheduled = true;
        }
    }

    /// <summary>Number of steps; null before the first.</summary>
    internal int? TotalSteps { get; private set; }

    /// <summary>Whether ranks were taken away.</summary>
    internal bool HasChosen => _parts.Any(static p => p.SavesKept);

    public Tensor? Penalty()
    {
        if (_config.OrthRegWeight == 0)
        {
            return null;
        }

        using var scope = NewDisposeScope();
        using Scalar weight = _config.OrthRegWeight / (2 * _parts.Count);
        Tensor? sum = null;
        foreach (var part in _parts)
        {
            foreach (var product in new[] { part.A.mm(part.A.t()), part.B.t().mm(part.B) })
            {
                var norm = product.sub(diag_embed(ones([product.size(0)], product.dtype, product.device))).norm();
                sum = sum is null ? norm : sum.Plus(norm.to(sum.device));
            }
        }

        return sum!.mul(weight).MoveToOuterDisposeScope();
    }

    public void Stepped(long step, long steps)
    {
        TotalSteps ??= (int)steps;
        if (_config.Tinit >= TotalSteps.Value - _config.Tfinal)
        {
            throw new InvalidDataException($"adapter.tinit: {_config.Tinit} steps before and {_config.Tfinal} (tfinal) after leave none of {TotalSteps} in which ranks are taken away; lower tinit or tfinal, or train more steps.");
        }

        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var last = TotalSteps.Value - _config.Tfinal;
        if (step > last)
        {
            // The ranks that were taken away stay away.
            if (HasChosen)
            {
                Mask();
            }

            return;
        }

        if (step < last)
        {
            Note();
        }

        if (step == last || (step > _config.Tinit && step % _config.DeltaT == 0))
        {
            Choose(Budget(step));
        }

        if (step == last)
        {
            Forget();
        }
    }

    public IEnumerable<(string Name, Tensor Tensor)> State()
    {
        foreach (var part in _parts)
        {
            foreach (var (name, parameter) in part.Parameters)
            {
                yield return (name, parameter);
            }

            yield return ($"{part.Module}.kept", tensor(part.Kept.Select(static k => k ? 1f : 0f).ToArray()));
        }

        foreach (var average in _averages)
        {
            yield return ($"{average.Name}.importance", average.Importance);
            yield return ($"{average.Name}.uncertainty", average.Uncertainty);
        }

        yield return ("schedule", tensor([TotalSteps ?? 0L, HasChosen ? 1L : 0L], [2]));
    }

    public void Restore(Func<string, Tensor?> read)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        Forget();
        var schedule = read("schedule")!.to(int64);
        TotalSteps = schedule.select(0, 0).ToInt64() is > 0 and var steps ? (int)steps : null;
        foreach (var part in _parts)
        {
            part.SavesKept = schedule.select(0, 1).ToInt64() != 0;
            var kept = read($"{part.Module}.kept")!;
            part.Kept = [.. Enumerable.Range(0, (int)kept.numel()).Select(i => kept.select(0, i).to(float32).item<float>() != 0)];
            foreach (var (name, parameter) in part.Parameters)
            {
                _ = parameter.copy_(read(name)!);
                if (read($"{name}.importance") is { } importance)
                {
                    _averages.Add(new Averages(name, Kept(importance, parameter.device), Kept(read($"{name}.uncertainty")!, parameter.device)));
                }
            }
        }
    }

    public void Dispose() => Forget();

    private static Tensor Kept(Tensor value, Device device) => value.to(float32).to(device).clone().DetachFromDisposeScope();

    private void Forget()
    {
        _averages.ForEach(static a => a.Dispose());
        _averages.Clear();
    }

    // Ranks of all modules together: falling by a cube from the first to the last choice.
    private int Budget(long step)
    {
        var (first, final) = (_parts.Sum(static p => (int)p.A.size(0)), _config.TargetR * _parts.Count);
        var left = 1 - ((double)(step - _config.Tinit) / (TotalSteps!.Value - _config.Tfinal - _config.Tinit));
        return (int)(((first - final) * Math.Pow(left, 3)) + final);
    }

    private void Note()
    {
        using Scalar kept1 = _config.Beta1;
        using Scalar new1 = 1 - _config.Beta1;
        using Scalar kept2 = _config.Beta2;
        using Scalar new2 = 1 - _config.Beta2;
        foreach (var (name, parameter) in _parts.SelectMany(static p => p.Parameters).Where(static p => p.Parameter.grad is not null))
        {
            var average = _averages.Find(a => a.Name == name);
            if (average is null)
            {
                _averages.Add(average = new Averages(name, zeros_like(parameter).detach().DetachFromDisposeScope(), zeros_like(parameter).detach().DetachFromDisposeScope()));
            }

            var now = parameter.mul(parameter.grad!).abs();
            _ = average.Importance.mul_(kept1).add_(now.mul(new1));
            _ = average.Uncertainty.mul_(kept2).add_(now.sub(average.Importance).abs().mul(new2));
        }
    }

    private void Choose(int budget)
    {
        var scores = _parts.Select(Score).ToList();
        var taken = _parts.Sum(static p => (int)p.A.size(0)) - budget;
        if (taken <= 0)
        {
            return;
        }

        // The value up to which importances are too low: the last of the lowest.
        var limit = cat([.. scores.Select(s => s.to(scores[0].device))]).topk(taken, -1, largest: false).values.max();
        foreach (var (part, score) in _parts.Zip(scores))
        {
            var kept = score.gt(limit.to(score.device)).to(float32).cpu();
            part.Kept = [.. Enumerable.Range(0, (int)kept.numel()).Select(i => kept.select(0, i).item<float>() != 0)];
            part.SavesKept = true;
        }

        Mask();
    }

    private Tensor Score(AdaloraPart part)
    {
        Tensor Of(string name) => _averages.Find(a => a.Name == $"{part.Module}.{name}") is { } average ? average.Importance.mul(average.Uncertainty)
            : throw new InvalidOperationException(string.Create(CultureInfo.InvariantCulture, $"{part.Module}: ranks are chosen before the first step"));
        return Of("lora_E").view(-1).add(Of("lora_A").mean([1])).add(Of("lora_B").mean([0]));
    }

    private void Mask()
    {
        foreach (var part in _parts)
        {
            var kept = tensor(part.Kept.Select(static k => k ? 1f : 0f).ToArray(), [part.Kept.Count, 1], device: part.E.device);
            _ = part.E.mul_(kept);
        }
    }

    private sealed record Averages(string Name, Tensor Importance, Tensor Uncertainty) : IDisposable
    {
        public void Dispose()
        {
            Importance.Dispose();
            Uncertainty.Dispose();
        }
    }
}
