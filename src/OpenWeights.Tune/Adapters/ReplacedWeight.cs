using OpenWeights.Tune.Layers;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>A whole weight that stands in the place of the base's: of a module that is trained whole (modules_to_save), or a bias.</summary>
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

    /// <summary>The same values in another module's place: an output head that is one weight with the embedding and stays so.</summary>
    internal ReplacedWeight(string module, WeightSlot slot, ReplacedWeight other)
        : this(module, slot, other.Value, $"{module}.{slot.Name}", inFile: true) => _isOther = true;

    /// <summary>The values that are computed with.</summary>
    public Parameter Value { get; }

    /// <summary>Where they are put.</summary>
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
    internal override IEnumerable<(string Name, Tensor Tensor)> FileTensors() => _inFile ? [(_fileName, Value)] : [];

    private protected override void Dispose(bool disposing)
    {
        if (disposing && !_isOther)
        {
            Value.Dispose();
        }
    }
}
