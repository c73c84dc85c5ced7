using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Kinds;

/// <summary>Settings of a DeLoRA adapter, with PEFT's names.</summary>
[AdapterType("delora", OwnBiases = "delora_only")]
internal sealed record DeloraConfig : AdapterConfig
{
    /// <summary>r: rank.</summary>
    [Setting("Rank.", Key = "r", Min = 1)]
    public int Rank { get; init; } = 8;

    /// <summary>delora_lambda: start of the strength, a bound of the update's norm.</summary>
    [Setting("Initial value of the trained strength, which bounds the norm of the update.")]
    public double DeloraLambda { get; init; } = 15;

    /// <summary>module_dropout: dropout probability on the adapter's input while training.</summary>
    [Setting("Dropout probability on the adapter's input while training.", Min = 0, Max = 0.999)]
    public double ModuleDropout { get; init; }

    /// <summary>init_weights: whether the update starts at zero.</summary>
    [Setting("Start with an update of zero; otherwise with a random one.")]
    public bool InitWeights { get; init; } = true;

    /// <summary>rank_pattern: ranks of individual modules, by name or pattern.</summary>
    [Setting("Ranks of individual modules, by name or pattern; they override r.")]
    public IReadOnlyDictionary<string, int> RankPattern { get; init; } = new Dictionary<string, int>();

    /// <summary>lambda_pattern: strengths of individual modules, by name or pattern.</summary>
    [Setting("Strengths of individual modules, by name or pattern; they override delora_lambda.")]
    public IReadOnlyDictionary<string, double> LambdaPattern { get; init; } = new Dictionary<string, double>();

    internal override IEnumerable<(string Setting, IEnumerable<string> Keys)> Patterns => [("rank_pattern", RankPattern.Keys), ("lambda_pattern", LambdaPattern.Keys)];
}

/// <summary>
/// DeLoRA (Bini et al., 2025): W + B diag(lambda / (r ‖A_i‖ ‖B_i‖)) A diag(n), with the norms n of the base weight's columns.
/// </summary>
internal sealed class DeloraKind : ModuleKind<DeloraConfig>
{
    internal override string PeftType => "DELORA";

    private protected override string TensorPrefix => "delora_";

    private protected override IEnumerable<AdapterPart> Parts(DeloraConfig config, ModuleSite site)
    {
        var (layer, rank) = ((LinearLayer)site.Target, (long)ByModule(config.RankPattern, site.Module, config.Rank));
        yield return new DeloraPart(
            site, config.ModuleDropout, site.Trained("delora_A", Fills.Kaiming, rank, layer.InFeatures),
            site.Trained("delora_B", config.InitWeights ? Fills.Zeros : Fills.Kaiming, layer.OutFeatures, rank),
            site.Trained("delora_lambda", Fills.Constant(ByModule(config.LambdaPattern, site.Module, config.DeloraLambda)), 1),
            site.Tensors.Take($"{site.Module}.delora_w_norm", (_, _) => layer.DenseRows(0, layer.OutFeatures).norm(0), layer.InFeatures));
    }

    private protected override bool IsIdle(DeloraConfig config, StoredModule stored) =>
        stored.IsZero("delora_A") || stored.IsZero("delora_B") || stored.IsZero("delora_lambda");
}

/// <summary>The update of one layer.</summary>
/// <param name="site">The layer.</param>
/// <param name="dropout">Dropout probability.</param>
/// <param name="a">A, [r, in].</param>
/// <param name="b">B, [out, r].</param>
/// <param name="strength">lambda, [1].</param>
/// <param name="norms">Norms of the base weight's columns, [in].</param>
internal sealed class DeloraPart(ModuleSite site, double dropout, Parameter a, Parameter b, Parameter strength, Tensor norms)
    : LinearPart(site, ("delora_A", a), ("delora_B", b), ("delora_lambda", strength))
{
    internal override long KeptPerToken => Target.InFeatures + (2 * a.size(0)) + (dropout > 0 ? 2 * Target.InFeatures : 0);

    public override Tensor Apply(LinearLayer layer, Tensor input, Tensor output)
    {
        using var scope = NewDisposeScope();
        var states = input.Widened();
        states = IsTraining && dropout > 0 ? nn.functional.dropout(states, dropout, training: true) : states;
        var inner = nn.functional.linear(states.mul(norms), a).mul(Scales());
        return output.Plus(nn.functional.linear(inner, b)).to(output.dtype).MoveToOuterDisposeScope();
    }

    internal override IEnumerable<(string Name, Tensor Tensor)> FileTensors() => [.. base.FileTensors(), ($"{Module}.delora_w_norm", norms)];

    private protected override Tensor MergedWeight(Tensor weight) => weight.Plus(b.mul(Scales()).mm(a).mul(norms));

    private protected override void Dispose(bool disposing)
    {
        base.Dispose(disposing);
        norms.Dispose();
    }

    private Tensor Scales()
    {
        using Scalar least = 1e-4;
        using Scalar rank = a.size(0);
        return strength.div(rank).div(a.norm(1).clamp_min(least).mul(b.norm(0).clamp_min(least)));
    }
}
