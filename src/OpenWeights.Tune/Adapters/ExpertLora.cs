using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers.Experts;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>
/// A low-rank update of one matrix of every expert (PEFT's target_parameters). Two adapted parameters of one module are nested in PEFT's names: the
/// first, gate_up_proj, is at experts.base_layer, and the second, down_proj, at experts.
/// </summary>
internal sealed class ExpertLora : AdapterPart
{
    private readonly string _file;
    private readonly ExpertMatrix _target;
    private ExpertUpdate? _update;

    /// <summary>Creates an update.</summary>
    /// <param name="module">Name of the experts, such as model.layers.0.mlp.experts.</param>
    /// <param name="target">The matrix.</param>
    /// <param name="weights">A, [experts x rank, in], and B, [out, rank x experts].</param>
    /// <param name="scale">Scaling factor.</param>
    /// <param name="isInner">Whether another parameter of the module is adapted as well, around this one.</param>
    internal ExpertLora(string module, ExpertMatrix target, (Tensor A, Tensor B) weights, double scale, bool isInner)
        : base(module)
    {
        _target = target;
        A = new Parameter(weights.A);
        B = new Parameter(weights.B);
        Scale = scale;
        _file = FileName(module, isInner);
    }

    /// <summary>Matrices A of all experts, [experts x rank, in].</summary>
    public Parameter A { get; }

    /// <summary>Matrices B of all experts, [out, rank x experts].</summary>
    public Parameter B { get; }

    /// <summary>Scaling factor s.</summary>
    public double Scale { get; }

    /// <summary>Rank of each expert's update.</summary>
    public long Rank => A.size(0) / _target.Count;

    /// <summary>Name of the adapted parameter, such as model.layers.0.mlp.experts.down_proj.</summary>
    public string Parameter => $"{Module}.{_target.Name}";

    /// <summary>The adapted matrix.</summary>
    internal ExpertMatrix Target => _target;

    /// <inheritdoc/>
    public override IEnumerable<(string Name, Parameter Parameter)> Parameters => [($"{_file}.lora_A.weight", A), ($"{_file}.lora_B.weight", B)];

    /// <inheritdoc/>
    public override IEnumerable<string> ChangedTensors => [Parameter];

    /// <inheritdoc/>
    internal override bool Enabled
    {
        get => _update is not null && _target.Updates.Contains(_update);
        set
        {
            if (_update is not null)
            {
                _ = _target.Updates.Remove(_update);
                _update = null;
            }

            if (value)
            {
                _target.Updates.Clear();
                Add(1);
            }
        }
    }

    /// <summary>Where PEFT's file has the update, without .lora_A.weight.</summary>
    /// <param name="module">Name of the experts.</param>
    /// <param name="isInner">Whether another parameter of the module is adapted as well, around this one.</param>
    internal static string FileName(string module, bool isInner) => isInner ? $"{module}.base_layer" : module;

    /// <summary>Adds the update, weighted, to those in use.</summary>
    /// <param name="weight">The weight.</param>
    internal void Add(double weight) => _target.Updates.Add(_update = new ExpertUpdate(A, B, (float)(weight * Scale)));

    /// <summary>Adds the update to those in use, for the rows that have the adapter.</summary>
    /// <param name="adapter">Name of the adapter.</param>
    internal void AddFor(string adapter) => _target.Updates.Add(_update = new ExpertUpdate(A, B, (float)Scale, adapter));

    /// <inheritdoc/>
    public override Tensor Merged(string tensor, Tensor weight)
    {
        ArgumentNullException.ThrowIfNull(weight);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        return stack([.. Enumerable.Range(0, _target.Count).Select(i => MergedExpert(tensor, i, weight.select(0, i)))]).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    internal override Tensor MergedExpert(string tensor, int expert, Tensor weight)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var (a, b) = ExpertUpdate.Views(_target, A.detach(), B.detach(), expert);
        using Scalar scale = Scale;
        var delta = b.mm(a).mul(scale);
        return weight.Plus((_target.IsTransposed ? delta.t() : delta).to(weight.device)).MoveToOuterDisposeScope();
    }

    private protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            A.Dispose();
            B.Dispose();
        }
    }
}
