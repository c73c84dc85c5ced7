using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Layers;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Kinds;

/// <summary>Settings of an OFT adapter, with PEFT's names.</summary>
[AdapterType("oft", OwnBiases = "oft_only")]
public sealed record OftConfig : AdapterConfig
{
    /// <summary>r: number of blocks of a layer; 0 if oft_block_size says their size.</summary>
    [Setting("Number of blocks of a layer, instead of oft_block_size; one of both is 0.", Key = "r", Min = 0)]
    public int Rank { get; init; }

    /// <summary>oft_block_size: size of a block; 0 if r says their number.</summary>
    [Setting("Size of a block; the nearest divisor of the layer's inputs is taken.", Min = 0)]
    public int OftBlockSize { get; init; } = 32;

    /// <summary>module_dropout: share of the blocks that are left out while training.</summary>
    [Setting("Share of the blocks that are left out in a training pass.", Min = 0, Max = 0.999)]
    public double ModuleDropout { get; init; }

    /// <summary>init_weights: whether the rotation starts at none.</summary>
    [Setting("Start with no rotation; otherwise with a random one.")]
    public bool InitWeights { get; init; } = true;

    /// <summary>coft: whether the rotation stays near none.</summary>
    [Setting("Constrained OFT: keep the rotation within eps of none.")]
    public bool Coft { get; init; }

    /// <summary>eps: how far the rotation may go with coft.</summary>
    [Setting("How far the rotation may go with coft.", Min = 0)]
    public double Eps { get; init; } = 6e-5;

    /// <summary>block_share: whether all blocks of a layer share one rotation.</summary>
    [Setting("Share one rotation among all blocks of a layer.")]
    public bool BlockShare { get; init; }

    /// <summary>use_cayley_neumann: whether the inverse of Cayley's transform is a series.</summary>
    [Setting("Compute the inverse in Cayley's transform as a series; false computes it exactly.")]
    public bool UseCayleyNeumann { get; init; } = true;

    /// <summary>num_cayley_neumann_terms: terms of that series.</summary>
    [Setting("Terms of the series.", Min = 1)]
    public int NumCayleyNeumannTerms { get; init; } = 5;
}

/// <summary>OFT (Qiu et al., 2023): blocks of a layer's input are rotated; trained are the rotations' skew-symmetric matrices.</summary>
internal sealed class OftKind : ModuleKind<OftConfig>
{
    internal override string PeftType => "OFT";

    private protected override string TensorPrefix => "oft_R.";

    private protected override IEnumerable<AdapterPart> Parts(OftConfig config, ModuleSite site)
    {
        var (count, size) = Blocks(config, ((LinearLayer)site.Target).InFeatures);
        yield return new OftPart(site, config, size, site.Trained("oft_R.weight", config.InitWeights ? Fills.Zeros : Fills.Normal(0.1), config.BlockShare ? 1 : count, size * (size - 1) / 2));
    }

    private protected override (string Setting, string Message)? Problem(OftConfig config, string name, nn.Module module) =>
        (config.Rank == 0) == (config.OftBlockSize == 0) ? ("oft_block_size", "set one of r and oft_block_size, and the other to 0.") : null;

    private protected override bool IsIdle(OftConfig config, StoredModule stored) => stored.IsZero("oft_R.weight");

    /// <summary>Number and size of a layer's blocks; as in PEFT a number or size that does not divide the inputs becomes the nearest that does.</summary>
    internal static (long Count, long Size) Blocks(OftConfig config, long inputs)
    {
        if (config.Rank == 0)
        {
            var size = Divisor(inputs, config.OftBlockSize);
            return (inputs / size, size);
        }

        var count = Divisor(inputs, config.Rank);
        return (count, inputs / count);
    }

    private static long Divisor(long inputs, long wanted)
    {
        if (inputs % wanted == 0 || wanted >= inputs)
        {
            return Math.Min(inputs, wanted);
        }

        var (higher, lower) = (wanted, wanted);
        while (inputs % higher != 0)
        {
            higher++;
        }

        while (inputs % lower != 0)
        {
            lower--;
        }

        return wanted - lower <= higher - wanted ? lower : higher;
    }
}

/// <summary>The rotation of one layer's input.</summary>
/// <param name="site">The layer.</param>
/// <param name="config">The settings.</param>
/// <param name="size">Size of a block.</param>
/// <param name="triangles">Upper triangles of the skew-symmetric matrices, [blocks or 1, size (size - 1) / 2].</param>
internal sealed class OftPart(ModuleSite site, OftConfig config, long size, Parameter triangles) : InputPart(site, ("oft_R.weight", triangles))
{
    private protected override Tensor Turn(Tensor states)
    {
        if (config.Coft)
        {
            // As in PEFT the parameter itself is moved back, before its gradient is computed.
            using var nothing = no_grad();
            using var scope = NewDisposeScope();
            _ = triangles.copy_(Constrained());
        }

        var blocks = Blocks(triangles);
        return Rotations.Apply(states, IsTraining && config.ModuleDropout > 0 ? DropoutRules.Blocks(blocks, config.ModuleDropout) : blocks);
    }

    private protected override Tensor MergedWeight(Tensor weight) => Rotations.Apply(weight, Blocks(config.Coft ? Constrained() : triangles).transpose(1, 2));

    private Tensor Blocks(Tensor from)
    {
        var skew = Rotations.Skew(from, size);
        return config.UseCayleyNeumann ? Rotations.Neumann(skew, config.NumCayleyNeumannTerms) : Rotations.Cayley(skew);
    }

    // Triangles whose matrix is longer than eps are shortened to it; a matrix has each entry of its triangle twice.
    private Tensor Constrained()
    {
        var most = config.Eps / Math.Sqrt(triangles.size(0));
        using Scalar both = Math.Sqrt(2);
        using Scalar limit = most;
        using Scalar least = 1e-30;
        var norms = triangles.norm(1, keepdim: true).mul(both);
        return where(norms.le(limit), triangles, triangles.mul(norms.clamp_min(least).reciprocal().mul(limit)));
    }
}
