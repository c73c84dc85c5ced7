using System.Runtime.InteropServices;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Starts;

/// <summary>
/// Measures the principal components of each layer's inputs, batch after batch, until they stop changing, and shares out the ranks by the variance
/// that they explain. Layers with the same input share their components.
/// </summary>
internal sealed class EvaPass
{
    // PEFT has no limit; inputs that never settle would keep it busy for ever.
    private const int MostBatches = 2000;

    private readonly LoraConfig _config;
    private readonly IReadOnlyList<(string Name, LinearLayer Layer)> _layers;
    private readonly Dictionary<string, string> _leaders;
    private readonly Dictionary<string, int> _most = [];
    private readonly Dictionary<string, Measured> _measured;

    private EvaPass(LoraConfig config, IReadOnlyList<(string Name, LinearLayer Layer)> layers, IReadOnlyList<IReadOnlyList<string>> groups)
    {
        (_config, _layers) = (config, layers);
        foreach (var group in groups)
        {
            var most = group.Max(Most);
            foreach (var name in group)
            {
                _most[name] = most;
            }
        }

        // The layers that are measured come first, then those that share with one.
        _leaders = groups.Select(static g => (Name: g[0], Leader: g[0])).Concat(groups.SelectMany(static g => g.Skip(1).Select(name => (Name: name, Leader: g[0]))))
            .ToDictionary(static p => p.Name, static p => p.Leader);
        _measured = groups.ToDictionary(static g => g[0], g => new Measured(new IncrementalPca(_most[g[0]])));
    }

    /// <summary>Measures the layers.</summary>
    /// <param name="model">The model.</param>
    /// <param name="config">Settings of the adapter.</param>
    /// <param name="layers">The adapted linear layers.</param>
    /// <param name="data">Training data; its batches are used in turn.</param>
    internal static StartFindings Run(CausalLanguageModel model, LoraConfig config, IReadOnlyList<(string Name, LinearLayer Layer)> layers, StartData data)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var pass = new EvaPass(config, layers, LayerInputs.Groups(model, data.Batch(0), layers));
        try
        {
            var ranks = pass.Ranks(model, data);
            var values = pass._leaders.ToDictionary(static l => l.Key, l => scope.Detach(pass.A(l.Value, ranks[l.Key])));
            return new StartFindings(pass.Resolved(model, ranks), values);
        }
        finally
        {
            foreach (var measured in pass._measured.Values)
            {
                measured.Components.Dispose();
            }
        }
    }

    private int Most(string module) => (int)Math.Round(_config.RankOf(module) * _config.Eva.Rho);

    // The rank of each layer, once all components that it needs have settled.
    private Dictionary<string, int> Ranks(CausalLanguageModel model, StartData data)
    {
        var ranks = _most.ToDictionary();
        for (var i = 0; i < MostBatches; i++)
        {
            foreach (var (name, measured) in _measured)
            {
                measured.IsDone = measured.Settled.AsSpan(0, Math.Min(ranks[name], measured.Settled.Length)).IndexOf(false) < 0;
            }

            if (_measured.Values.All(static m => m.IsDone))
            {
                return ranks;
            }

            using var scope = NewDisposeScope();
            var batch = data.Batch(i % data.Count);
            LayerInputs.Show(model, batch, [.. _layers.Where(l => _measured.TryGetValue(l.Name, out var m) && !m.IsDone)], (name, states) => Add(_measured[name], states, batch));
            if (_measured.Values.All(static m => m.Components.Components is not null))
            {
                ranks = Shared();
            }
        }

        if (_measured.FirstOrDefault(static m => m.Value.Components.Components is null).Key is { } unmeasured)
        {
            throw new InvalidDataException($"init_lora_weights: eva needs batches of at least {_most[unmeasured]} tokens with a label; raise training.micro_batch_size, or set eva_config.use_label_mask to false.");
        }

        return ranks;
    }

    private void Add(Measured measured, Tensor states, StartBatch batch)
    {
        using var scope = NewDisposeScope();
        var rows = states.index_select(0, _config.Eva.UseLabelMask ? batch.Labelled : batch.Tokens).to(float32);
        if (rows.size(0) < measured.Components.Count)
        {
            return;
        }

        var before = measured.Components.Components?.clone();
        measured.Components.Add(rows);
        if (before is null)
        {
            return;
        }

        var now = measured.Components.Components!;
        before = before.to(now.dtype);
        var similarity = now.mul(before).sum([1L]).div(now.norm(1).mul(before.norm(1)));
        measured.Settled = [.. Doubles(similarity).Select(s => s >= _config.Eva.Tau)];
    }

    // The components that explain most of their layer's variance share the ranks of all layers; of equal ones the earlier layer's.
    private Dictionary<string, int> Shared()
    {
        var budget = _layers.Sum(l => _config.RankOf(l.Name));
        var explained = _measured.ToDictionary(static m => m.Key, static m => Doubles(m.Value.Components.Explained!));
        var counts = _leaders.SelectMany(l => explained[l.Value].Take(_most[l.Value]).Select(share => (l.Key, Share: share)))
            .OrderByDescending(static c => c.Share).Take(budget).CountBy(static c => c.Key).ToDictionary();
        var ranks = _leaders.Keys.ToDictionary(static name => name, name => counts.GetValueOrDefault(name));
        foreach (var (name, leader) in _leaders.Where(static l => l.Key != l.Value))
        {
            (ranks[leader], ranks[name]) = (Math.Max(ranks[leader], ranks[name]), Math.Min(ranks[leader], ranks[name]));
        }

        return ranks;
    }

    private Tensor A(string leader, int rank)
    {
        var components = _measured[leader].Components;
        var a = components.Components!.narrow(0, 0, rank);
        return (_config.Eva.Whiten ? a.div(components.SingularValues!.narrow(0, 0, rank).sqrt().view(-1, 1)) : a).to(float32).clone();
    }

    // The settings with the ranks; layers without a rank are left out.
    private LoraConfig Resolved(CausalLanguageModel model, Dictionary<string, int> ranks)
    {
        var (ofRank, ofAlpha) = (new Dictionary<string, int>(), new Dictionary<string, double>());
        var others = model.AdaptableModules.Where(m => m.Module is not LinearLayer && AdapterTargets.IsAdapted(model, m, _config)).Select(static m => m.Name).ToList();
        foreach (var name in _layers.Select(static l => l.Name).Where(l => ranks[l] > 0).Concat(others))
        {
            var (rank, alpha) = (_config.RankOf(name), _config.AlphaOf(name));
            var found = ranks.GetValueOrDefault(name, rank);
            alpha = _config.Eva.AdjustScalingFactors ? alpha * found / rank : alpha;
            if (found != _config.Rank)
            {
                ofRank[name] = found;
            }

            if (alpha != _config.Alpha)
            {
                ofAlpha[name] = alpha;
            }
        }

        return _config with { Targets = TargetModules.Of([.. _layers.Select(static l => l.Name).Where(l => ranks[l] > 0), .. others]), RankPattern = ofRank, AlphaPattern = ofAlpha };
    }

    private static double[] Doubles(Tensor values)
    {
        using var scope = NewDisposeScope();
        return MemoryMarshal.Cast<byte, double>(values.to(float64).cpu().contiguous().bytes).ToArray();
    }

    private sealed class Measured(IncrementalPca components)
    {
        internal IncrementalPca Components => components;

        internal bool[] Settled { get; set; } = new bool[components.Count];

        internal bool IsDone { get; set; }
    }
}
