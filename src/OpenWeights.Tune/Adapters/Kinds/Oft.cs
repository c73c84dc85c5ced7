using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Layers;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Kinds;

/// <summary>Settings of an OFT adapter, with PEFT's names.</summary>
[AdapterType("oft", OwnBiases = "oft_only")]
internal sealed record OftConfig : AdapterConfig
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
    [Setting("Terms of the series.", Min = 2)]
    public int NumCayleyNeumannTerms { get; init; } = 5;

    internal override bool Takes(nn.Module module) => module is LinearLayer or TokenEmbedding;
}

/// <summary>OFT (Qiu et al., 2023): blocks of a layer's input are rotated; trained are the rotations' skew-symmetric matrices.</summary>
internal sealed class OftKind : ModuleKind<OftConfig>
{
    internal override string PeftType => "OFT";

    private protected override string TensorPrefix => "oft_";

    private protected override IEnumerable<AdapterPart> Parts(OftConfig config, ModuleSite site)
    {
        var embedding = site.Target as TokenEmbedding;
        var (count, size) = Blocks(config, embedding?.Weight.size(1) ?? ((LinearLayer)site.Target).InFeatures);
        var name = embedding is null ? "oft_R.weight" : "oft_embedding_R.weight";
        var triangles = site.Trained(name, config.InitWeights ? Fills.Zeros : Fills.Normal(0.1), config.BlockShare ? 1 : count, size * (size - 1) / 2);
        var rotation = new OftRotation(config, size, triangles);
        yield return embedding is null ? new OftPart(site, rotation, triangles) : new OftEmbedding(site, rotation, triangles);
    }

    private protected override (string Setting, string Message)? Problem(OftConfig config, string name, nn.Module module) =>
        (config.Rank == 0) == (config.OftBlockSize == 0) ? ("oft_block_size", "set one of r and oft_block_size, and the other to 0.") : null;

    private protected override bool IsIdle(OftConfig config, StoredModule stored) => stored.IsZero("oft_R.weight") || stored.IsZero("oft_embedding_R.weight");

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
internal sealed class OftPart(ModuleSite site, OftRotation rotation, Parameter triangles) : InputPart(site, ("oft_R.weight", triangles))
{
    private protected override Tensor Turn(Tensor states) => rotation.Turn(states, IsTraining);

    private protected override Tensor MergedWeight(Tensor weight) => Rotations.Apply(weight, rotation.Merged().transpose(1, 2));
}

/// <summary>The rotation of what an embedding gives.</summary>
internal sealed class OftEmbedding(ModuleSite site, OftRotation rotation, Parameter triangles) : EmbeddingPart(site, ("oft_embedding_R.weight", triangles))
{
    private protected override Tensor Changed(Tensor states, Tensor ids) => rotation.Turn(states, IsTraining);

    private protected override Tensor MergedWeight(Tensor weight) => Rotations.Apply(weight, rotation.Merged());
}
