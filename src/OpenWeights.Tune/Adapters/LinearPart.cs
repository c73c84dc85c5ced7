using OpenWeights.Tune.Layers;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>The part of an adapter that changes the output of one linear layer.</summary>
internal abstract class LinearPart : AdapterPart, ILinearAdapter
{
    private readonly (string Name, Parameter Parameter)[] _own;

    /// <summary>Creates the part.</summary>
    /// <param name="site">The layer.</param>
    /// <param name="own">Its trained parameters by their name within the layer; the part takes ownership.</param>
    private protected LinearPart(ModuleSite site, params (string Name, Parameter Parameter)[] own)
        : base(site.Module)
    {
        Target = (LinearLayer)site.Target;
        _own = own;
    }

    /// <summary>The trained parameters by their name within the layer.</summary>
    private protected IReadOnlyList<(string Name, Parameter Parameter)> Own => _own;

    /// <summary>The adapted layer.</summary>
    internal LinearLayer Target { get; }

    /// <inheritdoc/>
    public override IEnumerable<(string Name, Parameter Parameter)> Parameters => _own.Select(p => ($"{Module}.{p.Name}", p.Parameter));

    /// <inheritdoc/>
    public override IEnumerable<string> ChangedTensors => [$"{Module}.weight"];

    /// <summary>Elements of float32 that are kept for backward per token, besides the layer's input.</summary>
    internal virtual long KeptPerToken => 0;

    /// <summary>Elements of float32 that are kept for backward whatever the number of tokens.</summary>
    internal virtual long KeptOnce => 0;

    /// <summary>Elements of float32 that exist besides while its gradients are computed.</summary>
    internal virtual long Working => 0;

    /// <inheritdoc/>
    internal override bool Enabled
    {
        get => Target.Adapter == this;
        set => Target.Adapter = value ? this : null;
    }

    /// <inheritdoc/>
    internal override bool Training
    {
        set => IsTraining = value;
    }

    /// <summary>Whether dropout is on.</summary>
    private protected bool IsTraining { get; private set; }

    /// <inheritdoc/>
    public abstract Tensor Apply(LinearLayer layer, Tensor input, Tensor output);

    /// <inheritdoc/>
    public virtual Tensor? Replace(LinearLayer layer, Tensor input) => null;

    /// <inheritdoc/>
    public sealed override Tensor Merged(string tensor, Tensor weight)
    {
        ArgumentNullException.ThrowIfNull(weight);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        return (tensor == $"{Module}.weight" ? MergedWeight(weight.to(_own[0].Parameter.device)) : MergedBias(weight.to(_own[0].Parameter.device))).to(weight.device).MoveToOuterDisposeScope();
    }

    /// <summary>The weight with this part merged in, [out, in], float32.</summary>
    /// <param name="weight">The weight, on the part's device.</param>
    private protected abstract Tensor MergedWeight(Tensor weight);

    /// <summary>The bias with this part merged in, [out], float32.</summary>
    /// <param name="bias">The bias, on the part's device.</param>
    private protected virtual Tensor MergedBias(Tensor bias) => throw new NotSupportedException($"{Module}: this kind of adapter changes no bias.");

    private protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            foreach (var (_, parameter) in _own)
            {
                parameter.Dispose();
            }
        }
    }
}
