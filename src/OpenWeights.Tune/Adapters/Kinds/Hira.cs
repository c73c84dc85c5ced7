using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Kinds;

/// <summary>Settings of a HiRA adapter, with PEFT's names.</summary>
[AdapterType("hira")]
internal sealed record HiraConfig : AdapterConfig
{
    /// <summary>r: rank of the product.</summary>
    [Setting("Rank of the product that multiplies the weight.", Key = "r", Min = 1)]
    public int Rank { get; init; } = 32;

    /// <summary>hira_dropout: dropout probability on the adapter's input while training.</summary>
    [Setting("Dropout probability on the adapter's input while training.", Min = 0, Max = 0.999)]
    public double HiraDropout { get; init; }

    /// <summary>init_weights: how A and B start.</summary>
    [Setting("Initialization: true (A Kaiming uniform, B zero), gaussian (A normal, B zero) or false (both normal, a random update).", OneOf = ["true", "false", "gaussian"])]
    public string InitWeights { get; init; } = "true";

    /// <summary>rank_pattern: ranks of individual modules, by name or pattern.</summary>
    [Setting("Ranks of individual modules, by name or pattern; they override r.")]
    public IReadOnlyDictionary<string, int> RankPattern { get; init; } = new Dictionary<string, int>();

    internal override IEnumerable<(string Setting, IEnumerable<string> Keys)> Patterns => [("rank_pattern", RankPattern.Keys)];

    internal override bool Takes(nn.Module module) => module is LinearLayer or TokenEmbedding;
}

/// <summary>HiRA (Huang et al., 2025): W ⊙ (1 + B A), an update of the weight's own rank.</summary>
internal sealed class HiraKind : ModuleKind<HiraConfig>
{
    internal override string PeftType => "HIRA";

    private protected override string TensorPrefix => "hira_";

    private protected override IEnumerable<AdapterPart> Parts(HiraConfig config, ModuleSite site)
    {
        long rank = ByModule(config.RankPattern, site.Module, config.Rank);
        if (site.Target is TokenEmbedding embedding)
        {
            var zero = config.InitWeights == "false" ? Fills.Normal(1) : Fills.Zeros;
            yield return new HiraEmbedding(
                site, site.Trained("hira_embedding_A", zero, rank, embedding.Weight.size(0)), site.Trained("hira_embedding_B", Fills.Normal(1), embedding.Weight.size(1), rank));
            yield break;
        }

        var layer = (LinearLayer)site.Target;
        var (a, b) = config.InitWeights switch
        {
            "true" => (Fills.Kaiming, Fills.Zeros),
            "gaussian" => (Fills.Normal(1.0 / rank), Fills.Zeros),
            _ => (Fills.Normal(1), Fills.Normal(1)),
        };
        yield return new HiraPart(site, config.HiraDropout, site.Trained("hira_A", a, rank, layer.InFeatures), site.Trained("hira_B", b, layer.OutFeatures, rank));
    }

    private protected override bool IsIdle(HiraConfig config, StoredModule stored) => stored.IsZero("hira_A") || stored.IsZero("hira_B") || stored.IsZero("hira_embedding_A") || stored.IsZero("hira_embedding_B");
}

/// <summary>The update of one layer.</summary>
internal sealed class HiraPart(ModuleSite site, double dropout, Parameter a, Parameter b) : DeltaPart(site, ("hira_A", a), ("hira_B", b))
{
    private protected override double Dropout => dropout;

    private protected override Tensor Delta(IReadOnlyList<Tensor> own, Func<Tensor> weight) => own[1].mm(own[0]).mul(weight());
}

/// <summary>The update of an embedding, E ⊙ (1 + (B A)ᵀ), of which only the rows of the given tokens are computed.</summary>
/// <param name="site">The embedding.</param>
/// <param name="a">Matrix A, [rank, vocabulary].</param>
/// <param name="b">Matrix B, [hidden, rank].</param>
internal sealed class HiraEmbedding(ModuleSite site, Parameter a, Parameter b) : EmbeddingPart(site, ("hira_embedding_A", a), ("hira_embedding_B", b))
{
    private protected override Tensor Changed(Tensor states, Tensor ids) => states.addcmul(states, nn.functional.linear(a.t().index_select(0, ids), b), Scalars.One);

    private protected override Tensor MergedWeight(Tensor weight) => weight.addcmul(weight, b.mm(a).t(), Scalars.One);
}
