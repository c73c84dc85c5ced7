using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Kinds;

/// <summary>Settings of a MiSS adapter, with PEFT's names.</summary>
[AdapterType("miss", OwnBiases = "MiSS_only")]
internal sealed record MissConfig : AdapterConfig
{
    /// <summary>r: number of inputs that share a row of the block.</summary>
    [Setting("Rank: the inputs are taken in groups of this size, which share one block.", Key = "r", Min = 1)]
    public int Rank { get; init; } = 64;

    /// <summary>miss_dropout: dropout probability on the adapter's input while training.</summary>
    [Setting("Dropout probability on the adapter's input while training.", Min = 0, Max = 0.999)]
    public double MissDropout { get; init; }

    /// <summary>mini_r: number of outputs that have their own column of the block, with init_weights mini.</summary>
    [Setting("With init_weights: mini, the number of outputs with a column of their own, which divides the outputs.", Min = 1)]
    public int MiniR { get; init; } = 1;

    /// <summary>init_weights: the variant.</summary>
    [Setting("Variant: true or false, one block for all groups of inputs (true starts at zero, false at random); bat, which multiplies with the weight; mini, whose columns repeat.", OneOf = ["true", "false", "bat", "mini"])]
    public string InitWeights { get; init; } = "true";
}

/// <summary>MiSS (Kang and Yin, 2025): a small block is added to every group of columns of the weight.</summary>
internal sealed class MissKind : ModuleKind<MissConfig>
{
    internal override string PeftType => "MISS";

    private protected override string TensorPrefix => "miss_block";

    private protected override IEnumerable<AdapterPart> Parts(MissConfig config, ModuleSite site)
    {
        var layer = (LinearLayer)site.Target;
        long rank = config.Rank;
        yield return config.InitWeights switch
        {
            "bat" => new MissBatPart(site, site.Trained("miss_block", Fills.Zeros, layer.OutFeatures / rank, rank, rank)),
            "mini" => new MissPart(site, config, site.Trained("miss_block", Fills.Zeros, rank, config.MiniR)),
            _ => new MissPart(site, config, site.Trained("miss_block", config.InitWeights == "true" ? Fills.Zeros : Fills.Kaiming, rank, layer.OutFeatures)),
        };
    }

    private protected override (string Setting, string Message)? Problem(MissConfig config, string name, nn.Module module)
    {
        var layer = (LinearLayer)module;
        return config.InitWeights == "bat" && (layer.InFeatures % config.Rank != 0 || layer.OutFeatures % config.Rank != 0)
            ? ("r", $"with init_weights: bat it must divide inputs and outputs, but {name} is [{layer.OutFeatures}, {layer.InFeatures}]; take a divisor of both.")
            : config.InitWeights == "mini" && layer.OutFeatures % config.MiniR != 0
            ? ("mini_r", $"it must divide the outputs, but {name} has {layer.OutFeatures}; take a divisor.")
            : null;
    }

    private protected override bool IsIdle(MissConfig config, StoredModule stored) => stored.IsZero("miss_block");
}

/// <summary>One layer's block D, [r, out] or [r, mini_r] with columns that repeat: y += D applied to the sum of the groups of x.</summary>
internal sealed class MissPart(ModuleSite site, MissConfig config, Parameter block) : LinearPart(site, ("miss_block", block))
{
    internal override long KeptPerToken => block.size(0) + (config.MissDropout > 0 ? 2 * Target.InFeatures : 0);

    public override Tensor Apply(LinearLayer layer, Tensor input, Tensor output)
    {
        using var scope = NewDisposeScope();
        var (states, rank) = (input.Widened(), block.size(0));
        if (Target.InFeatures % rank is > 0 and var rest)
        {
            states = cat([states, zeros([.. states.shape[..^1], rank - rest], states.dtype, states.device)], -1);
        }

        states = IsTraining && config.MissDropout > 0 ? nn.functional.dropout(states, config.MissDropout, training: true) : states;
        var groups = states.reshape(-1, states.size(-1) / rank, rank).sum([1]);
        return output.Plus(groups.mm(Whole()).view([.. input.shape[..^1], Target.OutFeatures])).to(output.dtype).MoveToOuterDisposeScope();
    }

    private protected override Tensor MergedWeight(Tensor weight)
    {
        var groups = (Target.InFeatures + block.size(0) - 1) / block.size(0);
        var tiles = cat([.. Enumerable.Repeat(Whole().t(), (int)groups)], 1);
        return weight.Plus(tiles.narrow(1, 0, Target.InFeatures));
    }

    private Tensor Whole() => block.size(1) == Target.OutFeatures ? block : cat([.. Enumerable.Repeat((Tensor)block, (int)(Target.OutFeatures / block.size(1)))], 1);
}

/// <summary>One layer's blocks M, [out / r, r, r]: each block of the weight becomes W_b + W_b M + M.</summary>
internal sealed class MissBatPart(ModuleSite site, Parameter blocks) : DeltaPart(site, ("miss_block", blocks))
{
    private protected override Tensor Delta(IReadOnlyList<Tensor> own, Func<Tensor> weight)
    {
        var (count, rank) = (own[0].size(0), own[0].size(1));
        var parts = weight().view(count, rank, -1, rank).permute(2, 0, 1, 3);
        return parts.matmul(own[0]).Plus(own[0]).permute(1, 2, 0, 3).reshape(Target.OutFeatures, Target.InFeatures);
    }
}
