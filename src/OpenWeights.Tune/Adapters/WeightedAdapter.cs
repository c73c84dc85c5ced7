using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Models;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>
/// One LoRA adapter made of several with weights, as PEFT's add_weighted_adapter makes it: alpha is the rank, so that the scale is 1, and each adapter's
/// own scale is in its weight.
/// </summary>
internal static class WeightedAdapter
{
    /// <summary>Combines adapters. The result is active on their model; no other adapter may be.</summary>
    /// <param name="adapters">LoRA adapters of one model, with their weights.</param>
    /// <param name="how">The combination.</param>
    /// <exception cref="InvalidDataException">The adapters cannot be combined in this way.</exception>
    public static PeftAdapter Create(IReadOnlyList<(PeftAdapter Adapter, double Weight)> adapters, AdapterCombination how)
    {
        ArgumentNullException.ThrowIfNull(adapters);
        ArgumentNullException.ThrowIfNull(how);

        // PEFT combines a single adapter in one way only.
        how = adapters.Count == 1 ? how with { Type = "linear" } : how;
        Require(adapters, how);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        using var arithmetic = new TaskArithmetic(how);
        var found = new Dictionary<string, (Tensor A, Tensor B)>();
        var model = adapters[0].Adapter.Base;
        foreach (var module in Modules(adapters))
        {
            Factor[] factors = [.. adapters.SelectMany(a => a.Adapter.Parts.Where(p => p.Module == module).Select(p => Factor.Of(p, a.Weight)))];
            found.Add(module, Combine(factors, how, arithmetic));
        }

        var first = adapters[0].Adapter.Config as LoraConfig;
        var rank = found.Values.Max(static f => (int)f.A.size(0));
        var config = new LoraConfig
        {
            Rank = rank,
            Alpha = rank,
            Dropout = first?.Dropout ?? 0,
            LayerReplication = first?.LayerReplication ?? [],
            Targets = TargetModules.Of([.. found.Keys]),
            RankPattern = found.Where(f => f.Value.A.size(0) != rank).ToDictionary(static f => f.Key, static f => (int)f.Value.A.size(0)),
            AlphaPattern = found.Where(f => f.Value.A.size(0) != rank).ToDictionary(static f => f.Key, static f => (double)f.Value.A.size(0)),
        };
        var combined = PeftAdapter.Attach(model, config, new Given(model, found));
        combined.Fingerprint = adapters[0].Adapter.Fingerprint;
        return combined;
    }

    // In the model's order, with the layers that the adapters stack (layer_replication) in the place of its own.
    private static List<string> Modules(IReadOnlyList<(PeftAdapter Adapter, double Weight)> adapters)
    {
        var (model, adapted) = (adapters[0].Adapter.Base, adapters.SelectMany(static a => a.Adapter.Parts).Select(static p => p.Module).ToHashSet());
        using var replicas = adapters[0].Adapter.Config is LoraConfig { LayerReplication.Count: > 0 } config ? PeftAdapter.Replicas(model, config) : null;
        try
        {
            return [.. model.AdaptableModules.Select(static m => m.Name).Where(adapted.Contains)];
        }
        finally
        {
            if (replicas is not null)
            {
                model.Use(null);
            }
        }
    }

    private static void Require(IReadOnlyList<(PeftAdapter Adapter, double Weight)> adapters, AdapterCombination how)
    {
        if (!AdapterCombination.Types.Contains(how.Type))
        {
            throw new InvalidDataException($"'{how.Type}' is not a way to combine adapters; valid are {string.Join(", ", AdapterCombination.Types)}.{Spelling.DidYouMean(how.Type, AdapterCombination.Types)}");
        }

        if (how.Density is not (>= 0 and <= 1))
        {
            throw new InvalidDataException($"the density is {how.Density}; it must be from 0 to 1.");
        }

        if (adapters.Select(static a => a.Adapter.LayerOrder ?? []).FirstOrDefault(o => !o.SequenceEqual(adapters[0].Adapter.LayerOrder ?? [])) is not null)
        {
            throw new InvalidDataException("layer_replication: the adapters stack other layers than each other, so that their layers of one number are no copies of one layer; combine only adapters with the same layer_replication.");
        }

        foreach (var part in adapters.SelectMany(static a => a.Adapter.Parts))
        {
            if (part is not (LoraLayer { Magnitude: null, OutputBias: null, HasStart: false } or EmbeddingLora))
            {
                throw new InvalidDataException($"{part.Module}: only plain LoRA of linear layers and embeddings can be combined into an adapter (no DoRA, lora_bias, experts, biases or modules_to_save); --format merged combines the others.");
            }
        }

        int[] ranks = [.. adapters.SelectMany(static a => a.Adapter.Parts).Select(static p => (int)Factor.Of(p, 1).A.size(0)).Distinct()];
        if (how.NeedsOneRank && ranks.Length > 1)
        {
            throw new InvalidDataException($"{how.Type} combines adapters of one rank, and these have ranks {string.Join(", ", ranks)}; use cat or {(how.Type == "linear" ? "svd" : $"{how.Type}_svd")}.");
        }
    }

    private static (Tensor A, Tensor B) Combine(Factor[] factors, AdapterCombination how, TaskArithmetic arithmetic)
    {
        double[] weights = [.. factors.Select(static f => f.Weight * f.Scale)];
        if (how.Type == "cat")
        {
            return (cat(factors.Select((f, i) => Times(f.A, weights[i])).ToArray(), 0), cat(factors.Select(static f => f.B).ToArray(), 1));
        }

        if (how.Decomposes)
        {
            return Decomposed(arithmetic.Combine([.. factors.Select(static f => Times(f.B.mm(f.A), f.Scale))], [.. factors.Select(static f => f.Weight)]), how, factors.Max(static f => (int)f.A.size(0)));
        }

        // Each matrix takes the root of the weight, and A its sign.
        double[] roots = [.. weights.Select(static w => Math.Sqrt(Math.Abs(w)))];
        return (
            arithmetic.Combine([.. factors.Select(static f => f.A)], [.. roots.Select((r, i) => weights[i] >= 0 ? r : -r)]),
            arithmetic.Combine([.. factors.Select(static f => f.B)], roots));
    }

    // The largest singular vectors: B = U S, A = Vᵀ.
    private static (Tensor A, Tensor B) Decomposed(Tensor update, AdapterCombination how, int largestRank)
    {
        var (u, s, vh) = linalg.svd(update, fullMatrices: false);
        var rank = Math.Min(how.SvdRank ?? largestRank, (int)s.size(0));
        var (b, a) = (u.narrow(1, 0, rank).mul(s.narrow(0, 0, rank)), vh.narrow(0, 0, rank));
        if (how.SvdClamp is not { } quantile)
        {
            return (a, b);
        }

        var limit = Quantile([.. Values(b), .. Values(a)], quantile);
        using Scalar most = limit, least = -limit;
        return (a.clamp(least, most), b.clamp(least, most));
    }

    private static float[] Values(Tensor tensor) => System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(tensor.cpu().contiguous().bytes).ToArray();

    // As torch.quantile: between the two nearest values.
    private static double Quantile(float[] values, double quantile)
    {
        Array.Sort(values);
        var place = quantile * (values.Length - 1);
        var (low, high) = (values[(int)Math.Floor(place)], values[(int)Math.Ceiling(place)]);
        return low + ((high - low) * (place - Math.Floor(place)));
    }

    private static Tensor Times(Tensor tensor, double weight)
    {
        using Scalar factor = weight;
        return tensor.mul(factor);
    }

    /// <summary>A low-rank update of one adapter: A, B, its scale, and the adapter's weight.</summary>
    private readonly record struct Factor(Tensor A, Tensor B, double Scale, double Weight)
    {
        internal static Factor Of(AdapterPart part, double weight) => part is EmbeddingLora embedding
            ? new Factor(embedding.A.detach(), embedding.B.detach(), embedding.Scale, weight)
            : new Factor(((LoraLayer)part).Down().detach(), ((LoraLayer)part).Up().detach(), ((LoraLayer)part).Scale, weight);
    }

    private sealed class Given(CausalLanguageModel model, Dictionary<string, (Tensor A, Tensor B)> found) : IAdapterWeights
    {
        public LoraWeights Linear(string module, LinearLayer layer, int rank)
        {
            var (a, b, _) = Of(module);
            return new LoraWeights(a, b);
        }

        public (Tensor A, Tensor B, Tensor? Magnitude) Embedding(string module, TokenEmbedding layer, int rank) => Of(module);

        public Tensor Rows(string fileName, nn.Module module, IReadOnlyList<int> tokens) => throw new NotSupportedException();

        public (Tensor A, Tensor B) Experts(string file, ExpertMatrix matrix, int rank) => throw new NotSupportedException();

        public Parameter Whole(string fileName, nn.Module module, WeightSlot slot, bool required) => throw new NotSupportedException();

        public Parameter? Frozen(string fileName, WeightSlot slot) => null;

        public Tensor? BeforeTraining(string fileName, WeightSlot slot) => null;

        private (Tensor A, Tensor B, Tensor? Magnitude) Of(string module)
        {
            Tensor Kept(Tensor tensor) => tensor.to(float32, model.DeviceOf(module), copy: true).contiguous().DetachFromDisposeScope();
            return (Kept(found[module].A), Kept(found[module].B), null);
        }
    }
}
