using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Kinds;

/// <summary>Settings of a GraLoRA adapter, with PEFT's names.</summary>
[AdapterType("gralora", OwnBiases = "gralora_only")]
internal sealed record GraloraConfig : AdapterConfig
{
    /// <summary>r: rank of all blocks of a row together.</summary>
    [Setting("Rank of all blocks of a row together, which gralora_k divides.", Key = "r", Min = 1)]
    public int Rank { get; init; } = 32;

    /// <summary>hybrid_r: rank of a LoRA beside the blocks; 0 for none.</summary>
    [Setting("Rank of a plain LoRA beside the blocks; 0 for none.", Min = 0)]
    public int HybridR { get; init; }

    /// <summary>alpha: the update is scaled by alpha / (r + hybrid_r).</summary>
    [Setting("Alpha; the update is scaled by alpha / (r + hybrid_r).", Min = 0)]
    public double Alpha { get; init; } = 64;

    /// <summary>gralora_dropout: dropout probability on the adapter's input while training.</summary>
    [Setting("Dropout probability on the adapter's input while training.", Min = 0, Max = 0.999)]
    public double GraloraDropout { get; init; }

    /// <summary>gralora_k: number of blocks along each side.</summary>
    [Setting("Number of blocks along each side of the weight.", Min = 1)]
    public int GraloraK { get; init; } = 2;

    /// <summary>init_weights: whether the update starts at zero.</summary>
    [Setting("Start with an update of zero; otherwise with a random one.")]
    public bool InitWeights { get; init; } = true;
}

/// <summary>GraLoRA (Jung et al., 2025): the weight is cut in k x k blocks, each with a LoRA of rank r / k.</summary>
internal sealed class GraloraKind : ModuleKind<GraloraConfig>
{
    internal override string PeftType => "GRALORA";

    private protected override string TensorPrefix => "gralora_";

    private protected override IReadOnlyCollection<string> Lacks => ["exclude_modules"];

    private protected override IEnumerable<AdapterPart> Parts(GraloraConfig config, ModuleSite site)
    {
        var (layer, count, rank) = ((LinearLayer)site.Target, (long)config.GraloraK, (long)config.Rank);
        var zero = config.InitWeights ? Fills.Zeros : null;

        // PEFT draws the transposes, whose number of columns is what kaiming_uniform_ takes.
        static Fill Turned(long columns) => (shape, random) => Fills.Uniform(1 / Math.Sqrt(columns))(shape, random);
        List<(string Name, Parameter Parameter)> own =
        [
            ("gralora_A", site.Trained("gralora_A", Turned(layer.InFeatures / count), count, layer.InFeatures / count, rank)),
            ("gralora_B", site.Trained("gralora_B", zero ?? Turned(rank), count, rank, layer.OutFeatures / count)),
        ];
        if (config.HybridR > 0)
        {
            own.Add(("gralora_A_general.weight", site.Trained("gralora_A_general.weight", Fills.Kaiming, config.HybridR, layer.InFeatures)));
            own.Add(("gralora_B_general.weight", site.Trained("gralora_B_general.weight", zero ?? Fills.Kaiming, layer.OutFeatures, config.HybridR)));
        }

        yield return new GraloraPart(site, config, [.. own]);
    }

    private protected override (string Setting, string Message)? Problem(GraloraConfig config, string name, nn.Module module)
    {
        var layer = (LinearLayer)module;
        return config.Rank % config.GraloraK != 0 ? ("r", $"gralora_k ({config.GraloraK}) must divide r ({config.Rank}).")
            : layer.InFeatures % config.GraloraK != 0 || layer.OutFeatures % config.GraloraK != 0
            ? ("gralora_k", $"it must divide inputs and outputs, but {name} is [{layer.OutFeatures}, {layer.InFeatures}]; take a divisor of both.")
            : null;
    }

    private protected override bool IsIdle(GraloraConfig config, StoredModule stored) =>
        config.Alpha == 0 || (stored.IsZero("gralora_B") && (config.HybridR == 0 || stored.IsZero("gralora_B_general.weight")));
}

/// <summary>The update of one layer: A, [k, in / k, r], and B, [k, r, out / k], and a LoRA if there is one.</summary>
internal sealed class GraloraPart(ModuleSite site, GraloraConfig config, (string Name, Parameter Parameter)[] own) : LinearPart(site, own)
{
    private readonly Scalar _scale = config.Alpha / (config.Rank + config.HybridR);

    internal override long KeptPerToken => (2L * config.GraloraK * config.Rank) + config.HybridR + (config.GraloraDropout > 0 ? 2 * Target.InFeatures : 0);

    public override Tensor Apply(LinearLayer layer, Tensor input, Tensor output)
    {
        using var scope = NewDisposeScope();
        var states = input.Widened();
        states = IsTraining && config.GraloraDropout > 0 ? nn.functional.dropout(states, config.GraloraDropout, training: true) : states;
        return output.Plus(Update(states.reshape(-1, Target.InFeatures)).view([.. input.shape[..^1], Target.OutFeatures])).to(output.dtype).MoveToOuterDisposeScope();
    }

    private protected override Tensor MergedWeight(Tensor weight) => weight.Plus(Update(diag_embed(ones([Target.InFeatures], weight.dtype, weight.device))).t());

    private protected override void Dispose(bool disposing)
    {
        base.Dispose(disposing);
        _scale.Dispose();
    }

    // Each block of inputs gives r numbers, r / k of them for each block of outputs.
    private Tensor Update(Tensor states)
    {
        long blocks = config.GraloraK;
        var inner = states.view(-1, blocks, Target.InFeatures / blocks).transpose(0, 1).bmm(Own[0].Parameter);
        var mixed = inner.view(blocks, -1, blocks, config.Rank / blocks).permute(2, 1, 0, 3).reshape(blocks, -1, config.Rank);
        var update = mixed.bmm(Own[1].Parameter).transpose(0, 1).reshape(-1, Target.OutFeatures);
        return (config.HybridR == 0 ? update : update.Plus(nn.functional.linear(nn.functional.linear(states, Own[2].Parameter), Own[3].Parameter))).mul(_scale);
    }
}
