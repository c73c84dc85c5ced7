using OpenWeights.Tune.Layers;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>A weight that replaces the base model's: of a fully trained module (modules_to_save), or a bias.</summary>
public sealed class ReplacedWeight : AdapterPart
{
    private readonly string _fileName;
    private readonly bool _inFile;
    private readonly bool _isOther;

    internal ReplacedWeight(string module, WeightSlot slot, Parameter value, string fileName, bool inFile)
        : base(module)
    {
        Slot = slot;
        Value = value;
        _fileName = fileName;
        _inFile = inFile;
    }

    /// <summary>The same weight for a second module: an output head that stays tied to the embedding.</summary>
    internal ReplacedWeight(string module, WeightSlot slot, ReplacedWeight other)
        : this(module, slot, other.Value, $"{module}.{slot.Name}", inFile: true) => _isOther = true;

    /// <summary>The replacing values.</summary>
    public Parameter Value { get; }

    /// <summary>The slot they replace.</summary>
    public WeightSlot Slot { get; }

    /// <inheritdoc/>
    public override IEnumerable<(string Name, Parameter Parameter)> Parameters => Value.requires_grad && !_isOther ? [(_fileName, Value)] : [];

    /// <inheritdoc/>
    public override IEnumerable<string> ChangedTensors => _isOther ? [] : [$"{Module}.{Slot.Name}"];

    /// <inheritdoc/>
    internal override bool Enabled
    {
        get => ReferenceEquals(Slot.Replacement, Value);
        set => Slot.Replacement = value ? Value : null;
    }

    /// <inheritdoc/>
    public override Tensor Merged(string tensor, Tensor weight)
    {
        ArgumentNullException.ThrowIfNull(weight);
        return Value.detach().to(float32, weight.device);
    }

    /// <inheritdoc/>
    internal override Tensor MergedExpert(string tensor, int expert, Tensor weight) => Value.detach().select(0, expert).to(float32, weight.device);

    /// <inheritdoc/>
    internal override IEnumerable<(string Name, Tensor Tensor)> FileTensors() => _inFile ? [(_fileName, Value)] : [];

    private protected override void Dispose(bool disposing)
    {
        if (disposing && !_isOther)
        {
            Value.Dispose();
        }
    }
}
