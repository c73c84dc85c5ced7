using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Kinds;

/// <summary>Settings of a BOFT adapter, with PEFT's names.</summary>
[AdapterType("boft", OwnBiases = "boft_only")]
internal sealed record BoftConfig : AdapterConfig
{
    /// <summary>boft_block_size: size of a block; 0 if boft_block_num says their number.</summary>
    [Setting("Size of a block, which divides the layer's inputs.", Min = 0)]
    public int BoftBlockSize { get; init; } = 4;

    /// <summary>boft_block_num: number of blocks; 0 if boft_block_size says their size.</summary>
    [Setting("Number of blocks, instead of boft_block_size; one of both is 0.", Min = 0)]
    public int BoftBlockNum { get; init; }

    /// <summary>boft_n_butterfly_factor: number of factors, each with its own blocks.</summary>
    [Setting("Number of butterfly factors, each with its own blocks. PEFT takes 1 where its CUDA extension is missing.", Min = 1)]
    public int BoftNButterflyFactor { get; init; } = 1;

    /// <summary>boft_dropout: share of the blocks that are left out while training.</summary>
    [Setting("Share of the blocks of a factor that are left out in a training pass.", Min = 0, Max = 0.999)]
    public double BoftDropout { get; init; }

    /// <summary>init_weights: whether the rotation starts at none.</summary>
    [Setting("Start with no rotation; otherwise with a random one.")]
    public bool InitWeights { get; init; } = true;
}

/// <summary>
/// BOFT (Liu et al., 2024): a layer's input is rotated by several factors, each in blocks of other inputs, and its outputs are scaled.
/// </summary>
internal sealed class BoftKind : ModuleKind<BoftConfig>
{
    internal override string PeftType => "BOFT";

    private protected override string TensorPrefix => "boft_";

    private protected override IEnumerable<AdapterPart> Parts(BoftConfig config, ModuleSite site)
    {
        var layer = (LinearLayer)site.Target;
        var size = config.BoftBlockNum > 0 ? layer.InFeatures / config.BoftBlockNum : config.BoftBlockSize;
        long factors = site.Stored("boft_R") is [var stored, ..] && stored is 1 ? 1 : config.BoftNButterflyFactor;
        yield return new BoftPart(
            site, config, site.Trained("boft_R", config.InitWeights ? Fills.Zeros : Fills.Normal(0.1), factors, layer.InFeatures / size, size, size),
            site.Trained("boft_s", config.InitWeights ? Fills.Ones : Fills.AroundOne(0.1), layer.OutFeatures, 1));
    }

    private protected override (string Setting, string Message)? Problem(BoftConfig config, string name, nn.Module module)
    {
        var inputs = ((LinearLayer)module).InFeatures;
        if ((config.BoftBlockNum == 0) == (config.BoftBlockSize == 0))
        {
            return ("boft_block_size", "set one of boft_block_size and boft_block_num, and the other to 0.");
        }

        var (given, setting) = config.BoftBlockNum > 0 ? ((long)config.BoftBlockNum, "boft_block_num") : (config.BoftBlockSize, "boft_block_size");
        if (inputs % given != 0)
        {
            return (setting, $"{given} does not divide the {inputs} inputs of {name}; take a divisor, or remove the module from target_modules.");
        }

        var factors = config.BoftNButterflyFactor;
        var (count, size) = config.BoftBlockNum > 0 ? (given, inputs / given) : (inputs / given, given);
        return factors > 1 && (size % 2 != 0 || count % (1L << (factors - 1)) != 0)
            ? ("boft_n_butterfly_factor", $"{factors} factors need an even block size and a number of blocks that {1L << (factors - 1)} divides; {name} has {count} blocks of {size}.")
            : null;
    }

    private protected override bool IsIdle(BoftConfig config, StoredModule stored) => stored.IsZero("boft_R") && stored.IsOne("boft_s");

    /// <summary>Which input stands in each place of a factor's blocks (PEFT's block_butterfly_perm).</summary>
    /// <param name="inputs">Number of inputs.</param>
    /// <param name="blocks">Number of parts of the inputs within which they are exchanged.</param>
    /// <param name="run">Number of inputs that stay together.</param>
    internal static long[] Permutation(long inputs, long blocks, long run)
    {
        var length = inputs / blocks;
        var runs = length / run;
        long[] order = [.. Enumerable.Range(0, (int)((runs + 1) / 2)).Select(static i => 2L * i), .. Enumerable.Range(0, (int)(runs / 2)).Select(static i => (2L * i) + 1)];
        return [.. Enumerable.Range(0, (int)inputs).Select(i => (i / length * length) + (order[i % length / run] * run) + (i % run))];
    }
}

/// <summary>The rotation of one layer's input and the scales of its outputs.</summary>
/// <param name="site">The layer.</param>
/// <param name="config">The settings.</param>
/// <param name="blocks">Matrices whose skew-symmetric parts give the rotations, [factors, blocks, size, size].</param>
/// <param name="scales">Factors of the outputs, [out, 1].</param>
internal sealed class BoftPart(ModuleSite site, BoftConfig config, Parameter blocks, Parameter scales) : InputPart(site, ("boft_R", blocks), ("boft_s", scales))
{
    internal override long KeptPerToken => ((blocks.size(0) + 1) * Target.InFeatures) + Target.OutFeatures;

    public override Tensor? Replace(LinearLayer layer, Tensor input)
    {
        using var scope = NewDisposeScope();
        var scaled = layer.Plain(Turned(input), null).Widened().mul(scales.view(-1));
        return (layer.Bias is { } bias ? scaled.Plus(bias.Widened()) : scaled).to(input.dtype).MoveToOuterDisposeScope();
    }

    // x B_{n-1} ... B_0
    private protected override Tensor Turn(Tensor states)
    {
        for (var i = blocks.size(0) - 1; i >= 0; i--)
        {
            states = Factor(states, i, Cayley(i, IsTraining && config.BoftDropout > 0));
        }

        return states;
    }

    private protected override Tensor MergedWeight(Tensor weight)
    {
        for (long i = 0; i < blocks.size(0); i++)
        {
            weight = Factor(weight, i, Cayley(i, dropout: false).transpose(1, 2));
        }

        return weight.mul(scales);
    }

    private Tensor Cayley(long factor, bool dropout)
    {
        using Scalar half = 0.5;
        var own = blocks.select(0, factor);
        var rotations = Rotations.Cayley(own.sub(own.transpose(1, 2)).mul(half));
        return dropout ? DropoutRules.Blocks(rotations, config.BoftDropout) : rotations;
    }

    private Tensor Factor(Tensor states, long factor, Tensor rotations)
    {
        if (blocks.size(0) == 1)
        {
            return Rotations.Apply(states, rotations);
        }

        var order = BoftKind.Permutation(Target.InFeatures, blocks.size(1) >> (int)factor, blocks.size(2) / 2);
        var back = new long[order.Length];
        for (var i = 0; i < order.Length; i++)
        {
            back[order[i]] = i;
        }

        var turned = Rotations.Apply(states.index_select(1, tensor(back, [back.Length], device: states.device)), rotations);
        return turned.index_select(1, tensor(order, [order.Length], device: states.device));
    }
}
