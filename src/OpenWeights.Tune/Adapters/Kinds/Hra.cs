using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Kinds;

/// <summary>Settings of an HRA adapter, with PEFT's names.</summary>
[AdapterType("hra", OwnBiases = "hra_only")]
internal sealed record HraConfig : AdapterConfig
{
    /// <summary>r: number of reflections; an even one starts with none.</summary>
    [Setting("Number of reflections; with an even number the adapter starts equal to the base.", Key = "r", Min = 1)]
    public int Rank { get; init; } = 8;

    /// <summary>apply_GS: whether the reflections' vectors are made orthogonal.</summary>
    [Setting("Make the reflections' vectors orthogonal (Gram-Schmidt).", Key = "apply_GS")]
    public bool ApplyGramSchmidt { get; init; }

    /// <summary>init_weights: whether reflections start in equal pairs, which cancel.</summary>
    [Setting("Start with pairs of equal reflections, which cancel; otherwise with random ones.")]
    public bool InitWeights { get; init; } = true;
}

/// <summary>HRA (Yuan et al., 2024): W times a product of Householder reflections I - 2 u uᵀ.</summary>
internal sealed class HraKind : ModuleKind<HraConfig>
{
    internal override string PeftType => "HRA";

    private protected override string TensorPrefix => "hra_u";

    private protected override IEnumerable<AdapterPart> Parts(HraConfig config, ModuleSite site)
    {
        // kaiming_uniform_ takes the number of columns: here r, or r / 2 for the pairs.
        Fill fill = config.InitWeights && config.Rank % 2 == 0 ? static (shape, random) => Fills.Kaiming([shape[0], shape[1] / 2], random).repeat_interleave(2, dim: 1) : Fills.Kaiming;
        yield return new HraPart(site, config.ApplyGramSchmidt, site.Trained("hra_u", fill, ((LinearLayer)site.Target).InFeatures, config.Rank));
    }
}

/// <summary>
/// The reflections of one layer's input. Their product, the first leftmost, is I - U S⁻¹ Uᵀ with normalised columns U and the upper
/// triangular S = ½ I + the strict upper triangle of UᵀU (Joffrain et al., 2006), so that only [tokens, r] is kept of each step.
/// </summary>
internal sealed class HraPart(ModuleSite site, bool orthogonal, Parameter vectors) : InputPart(site, ("hra_u", vectors))
{
    internal override long KeptPerToken => Target.InFeatures + (2 * vectors.size(1));

    private protected override Tensor Turn(Tensor states)
    {
        var (units, inverse) = Product();
        return states.sub(states.mm(units).mm(inverse.t()).mm(units.t()));
    }

    private protected override Tensor MergedWeight(Tensor weight)
    {
        var (units, inverse) = Product();
        return weight.sub(weight.mm(units).mm(inverse).mm(units.t()));
    }

    private (Tensor Units, Tensor Inverse) Product()
    {
        using Scalar two = 2;
        using Scalar half = 0.5;
        var rank = vectors.size(1);
        var identity = diag_embed(ones([rank], vectors.dtype, vectors.device));
        if (orthogonal)
        {
            return (Orthogonal(), identity.mul(two));
        }

        var units = vectors.div(vectors.norm(0, keepdim: true));
        var triangle = units.t().mm(units).triu(1).Plus(identity.mul(half));
        return (units, linalg.solve_triangular(triangle, identity, upper: true));
    }

    private Tensor Orthogonal()
    {
        var made = new List<Tensor>();
        for (long i = 0; i < vectors.size(1); i++)
        {
            var next = vectors.narrow(1, i, 1);
            foreach (var unit in made)
            {
                next = next.sub(unit.mul(unit.t().mm(next)));
            }

            made.Add(next.div(next.norm()));
        }

        return cat([.. made], 1);
    }
}
