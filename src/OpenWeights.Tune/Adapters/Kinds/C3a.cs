using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Layers;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Kinds;

/// <summary>Settings of a C3A adapter, with PEFT's names.</summary>
[AdapterType("c3a", OwnBiases = "c3a_only")]
internal sealed record C3aConfig : AdapterConfig
{
    /// <summary>block_size: size of a circulant block.</summary>
    [Setting("Size of a circulant block, which divides inputs and outputs; the smaller, the more trained parameters.", Min = 1)]
    public int BlockSize { get; init; } = 256;

    /// <summary>block_size_pattern: sizes of individual modules, by name or pattern.</summary>
    [Setting("Block sizes of individual modules, by name or pattern; they override block_size.")]
    public IReadOnlyDictionary<string, int> BlockSizePattern { get; init; } = new Dictionary<string, int>();

    /// <summary>init_weights: how the kernels start.</summary>
    [Setting("Initialization of the kernels: true (zeros), xavier_uniform, kaiming_uniform or gaussian; false is xavier_uniform.", OneOf = ["true", "false", "xavier_uniform", "kaiming_uniform", "gaussian"])]
    public string InitWeights { get; init; } = "xavier_uniform";

    internal override IEnumerable<(string Setting, IEnumerable<string> Keys)> Patterns => [("block_size_pattern", BlockSizePattern.Keys)];
}

/// <summary>C3A (Chen et al., 2024): the update is made of circulant blocks, each with a trained kernel, divided by the number of inputs.</summary>
internal sealed class C3aKind : ModuleKind<C3aConfig>
{
    internal override string PeftType => "C3A";

    private protected override string TensorPrefix => "c3a_kernel";

    private protected override IReadOnlyCollection<string> Lacks => ["exclude_modules"];

    private protected override IEnumerable<AdapterPart> Parts(C3aConfig config, ModuleSite site)
    {
        var layer = (LinearLayer)site.Target;
        long size = ByModule(config.BlockSizePattern, site.Module, config.BlockSize);
        var fill = config.InitWeights switch
        {
            "true" => Fills.Zeros,
            "gaussian" => Fills.Normal(1),
            "kaiming_uniform" => Fills.Uniform(Math.Sqrt(1.0 / layer.InFeatures)),
            _ => Fills.Uniform(Math.Sqrt(6.0 / (layer.InFeatures + layer.OutFeatures))),
        };
        yield return new C3aPart(site, site.Trained("c3a_kernel", fill, layer.OutFeatures / size, layer.InFeatures / size, size));
    }

    private protected override (string Setting, string Message)? Problem(C3aConfig config, string name, nn.Module module)
    {
        var (layer, size) = ((LinearLayer)module, ByModule(config.BlockSizePattern, name, config.BlockSize));
        return layer.InFeatures % size != 0 || layer.OutFeatures % size != 0
            ? ("block_size", $"{size} does not divide inputs and outputs of {name}, [{layer.OutFeatures}, {layer.InFeatures}]; take a divisor of both, or set its own in block_size_pattern.")
            : null;
    }

    private protected override bool IsIdle(C3aConfig config, StoredModule stored) => stored.IsZero("c3a_kernel");
}

/// <summary>One layer's kernels, [out / size, in / size, size]: an entry [i, j] of a block is kernel[(j - i) mod size].</summary>
internal sealed class C3aPart(ModuleSite site, Parameter kernels) : DeltaPart(site, ("c3a_kernel", kernels))
{
    private protected override Tensor Delta(IReadOnlyList<Tensor> own, Func<Tensor> weight)
    {
        var size = (int)kernels.size(2);
        var places = Enumerable.Range(0, size * size).Select(p => (long)((p % size) - (p / size) + size) % size).ToArray();
        using Scalar inverse = 1.0 / Target.InFeatures;
        var blocks = own[0].index_select(2, tensor(places, [places.Length], device: own[0].device)).view(own[0].size(0), own[0].size(1), size, size);
        return blocks.permute(0, 2, 1, 3).reshape(Target.OutFeatures, Target.InFeatures).mul(inverse);
    }
}
