using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Adapters.Starts;
using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Training;

/// <summary>Turns the adapter section's settings of LoRA's forms into those of an adapter.</summary>
internal static class LoraSection
{
    // PEFT's name of the token embedding, whatever the family calls it.
    private const string Embedding = "embed_tokens";

    /// <summary>The settings, added to those of plain LoRA.</summary>
    /// <param name="config">The settings of plain LoRA.</param>
    /// <param name="section">The section.</param>
    internal static LoraConfig With(LoraConfig config, AdapterSection section)
    {
        _ = LoraStarts.TryRead(section.InitLoraWeights, ref config);
        var (eva, ga) = (section.EvaConfig, section.LoraGaConfig);
        return config with
        {
            Eva = new EvaSettings { Rho = eva.Rho, Tau = eva.Tau, UseLabelMask = eva.UseLabelMask, Whiten = eva.Whiten, AdjustScalingFactors = eva.AdjustScalingFactors },
            Corda = new CordaSettings { PreservesKnowledge = section.CordaConfig.CordaMethod == "kpm" },
            Loftq = new LoftqSettings { Bits = section.LoftqConfig.LoftqBits, Iterations = section.LoftqConfig.LoftqIter },
            LoraGa = new LoraGaSettings { Direction = ga.Direction, Scale = ga.Scale, StableGamma = ga.StableGamma },
            BlockDiagonal = section.UseBdlora is { } blocks ? new BlockDiagonalSettings { OfA = blocks.OfA, OfB = blocks.OfB, Blocks = blocks.Nblocks, MatchStrict = blocks.MatchStrict } : null,
            Kasa = section.KasaConfig is { } kasa ? new KasaSettings { Beta = kasa.Beta, Gamma = kasa.Gamma, Penalizes = kasa.Penalize } : null,
            VocabularySize = section.VocabSize,
            InvocationTokens = section.AloraInvocationTokens,
            LayerReplication = [.. section.LayerReplication.Where(static r => r is [>= 0, _] && r[1] > r[0]).Select(static r => (r[0], r[1]))],
            TrainableTokens = [.. section.TrainableTokenIndices.Select(static t => new TokenRows(t.Key == Embedding ? null : TargetModules.Of([t.Key]), t.Value))],
        };
    }
}
