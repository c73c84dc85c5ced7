using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Kinds;

/// <summary>Settings of a VB-LoRA adapter, with PEFT's names.</summary>
[AdapterType("vblora", OwnBiases = "vblora_only")]
internal sealed record VbloraConfig : AdapterConfig
{
    /// <summary>r: rank.</summary>
    [Setting("Rank.", Key = "r", Min = 1)]
    public int Rank { get; init; } = 4;

    /// <summary>num_vectors: number of vectors in the bank.</summary>
    [Setting("Number of vectors in the bank that all layers share.", Min = 1)]
    public int NumVectors { get; init; } = 256;

    /// <summary>vector_length: length of a vector, which divides inputs and outputs.</summary>
    [Setting("Length of a vector, which divides the inputs and outputs of the layers.", Min = 1)]
    public int VectorLength { get; init; } = 256;

    /// <summary>topk: number of vectors that are mixed in each place.</summary>
    [Setting("Number of vectors that are mixed in each place.", Key = "topk", Min = 1)]
    public int TopK { get; init; } = 2;

    /// <summary>save_only_topk_weights: whether the file has only the vectors in use; it cannot be trained on.</summary>
    [Setting("Save only which vectors are in use and their shares: a small file, which cannot be trained on.")]
    public bool SaveOnlyTopkWeights { get; init; }

    /// <summary>vblora_dropout: dropout probability on the adapter's input while training.</summary>
    [Setting("Dropout probability on the adapter's input while training.", Min = 0, Max = 0.999)]
    public double VbloraDropout { get; init; }

    /// <summary>init_vector_bank_bound: the bank starts uniform within this.</summary>
    [Setting("The bank starts uniform within this bound.", Min = 0)]
    public double InitVectorBankBound { get; init; } = 0.02;

    /// <summary>init_logits_std: standard deviation of the logits' start.</summary>
    [Setting("Standard deviation of the initial logits.", Min = 0)]
    public double InitLogitsStd { get; init; } = 0.1;
}

/// <summary>VB-LoRA (Li et al., 2024): W + B A, each piece of A and B a mixture of the best vectors of a bank by trained logits.</summary>
internal sealed class VbloraKind : ModuleKind<VbloraConfig>
{
    private const string Bank = "base_model.vblora_vector_bank";

    internal override string PeftType => "VBLORA";

    private protected override string TensorPrefix => "vblora_logits_";

    private protected override IEnumerable<AdapterPart> Parts(VbloraConfig config, ModuleSite site)
    {
        var (layer, length) = ((LinearLayer)site.Target, config.VectorLength);
        var bank = site.Tensors.SharedParameter(Bank, Fills.Uniform(config.InitVectorBankBound), config.NumVectors, length);
        Parameter Logits(string name, long rows, long columns) => config.SaveOnlyTopkWeights && site.Tensors.ReadsFile
            ? new Parameter(FromShares(config, site, name, rows, columns))
            : site.Trained(name, Fills.Normal(config.InitLogitsStd), rows, columns, config.NumVectors);
        yield return new VbloraPart(
            site, config, bank, Logits("vblora_logits_A", config.Rank, layer.InFeatures / length), Logits("vblora_logits_B", layer.OutFeatures / length, config.Rank));
    }

    private protected override (string Setting, string Message)? Problem(VbloraConfig config, string name, nn.Module module)
    {
        var layer = (LinearLayer)module;
        return config.TopK > config.NumVectors ? ("topk", $"it cannot exceed num_vectors ({config.NumVectors}).")
            : layer.InFeatures % config.VectorLength != 0 || layer.OutFeatures % config.VectorLength != 0
            ? ("vector_length", $"it must divide inputs and outputs, but {name} is [{layer.OutFeatures}, {layer.InFeatures}]; take a divisor of both.")
            : null;
    }

    // The file has the shares of all but the last of the best vectors; the shares' logarithms are logits, and the other vectors have none.
    private static Tensor FromShares(VbloraConfig config, ModuleSite site, string name, long rows, long columns)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var places = site.Tensors.Take($"{site.Module}.{name}_topk_indices", Fills.Zeros, rows, columns, config.TopK);
        var shares = site.Tensors.Take($"{site.Module}.{name}_topk_weights", Fills.Zeros, rows, columns, config.TopK - 1);
        scope.Attach(places);
        scope.Attach(shares);
        if (!site.Tensors.HasValues)
        {
            return site.Tensors.Meta(rows, columns, config.NumVectors);
        }

        var sums = shares.sum([-1], keepdim: true);
        var all = cat([shares, ones_like(sums).sub(sums)], -1).log();
        var logits = full([rows, columns, config.NumVectors], double.NegativeInfinity, WideNumbers.Of(site.Tensors.Model.DType), device: site.Tensors.DeviceOf(site.Module));
        return scope.Detach(logits.scatter_(2, places.to(int64), all));
    }
}

/// <summary>The logits of one layer.</summary>
/// <param name="site">The layer.</param>
/// <param name="config">The settings.</param>
/// <param name="bank">The vectors, [vectors, length].</param>
/// <param name="a">Logits of A, [r, in / length, vectors].</param>
/// <param name="b">Logits of B, [out / length, r, vectors].</param>
internal sealed class VbloraPart(ModuleSite site, VbloraConfig config, Parameter bank, Parameter a, Parameter b) : LinearPart(site, ("vblora_logits_A", a), ("vblora_logits_B", b))
{
    internal override long KeptPerToken => config.Rank + (config.VbloraDropout > 0 ? 2 * Target.InFeatures : 0);

    internal override long KeptOnce => (2L + config.TopK) * config.Rank * (Target.InFeatures + Target.OutFeatures);

    public override Tensor Apply(LinearLayer layer, Tensor input, Tensor output)
    {
        using var scope = NewDisposeScope();
        var states = input.Widened();
        states = IsTraining && config.VbloraDropout > 0 ? nn.functional.dropout(states, config.VbloraDropout, training: true) : states;
        return output.Plus(nn.functional.linear(nn.functional.linear(states, A()), B())).to(output.dtype).MoveToOuterDisposeScope();
    }

    internal override IEnumerable<(string Name, Tensor Tensor)> FileTensors() =>
        config.SaveOnlyTopkWeights ? Shares("vblora_logits_A", a).Concat(Shares("vblora_logits_B", b)) : base.FileTensors();

    private protected override Tensor MergedWeight(Tensor weight) => weight.Plus(B().mm(A()));

    private Tensor A() => Mixed(a).reshape(a.size(0), -1);

    private Tensor B() => Mixed(b).transpose(1, 2).reshape(-1, b.size(1));

    private Tensor Mixed(Tensor logits)
    {
        var (best, places) = logits.topk(config.TopK, -1);
        var vectors = bank.to(logits.device).index_select(0, places.reshape(-1)).view([.. places.shape, config.VectorLength]);
        return best.softmax(-1).unsqueeze(-1).mul(vectors).sum([-2]);
    }

    private IEnumerable<(string Name, Tensor Tensor)> Shares(string name, Tensor logits)
    {
        var (best, places) = logits.topk(config.TopK, -1);
        var type = config.NumVectors < 1 << 8 ? uint8 : config.NumVectors < 1 << 15 ? int16 : int32;
        return [($"{Module}.{name}_topk_indices", places.to(type)), ($"{Module}.{name}_topk_weights", best.softmax(-1).narrow(-1, 0, config.TopK - 1).contiguous())];
    }
}
