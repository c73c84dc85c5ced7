using OpenWeights.Tune.Layers;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>A weight that replaces the base model's: of a fully trained module (modules_to_save), or a bias.</summary>
internal sealed class ReplacedWeight : AdapterPart
{
    private readonly string _fileName;
    private readonly bool _inFile;
    private readonly bool _isOther;
    private readonly (string Name, Tensor Value)? _original;

    /// <summary>Creates the part.</summary>
    /// <param name="module">Name of the module.</param>
    /// <param name="slot">The slot.</param>
    /// <param name="value">The values; the part takes ownership.</param>
    /// <param name="fileName">Their name in PEFT's file.</param>
    /// <param name="inFile">Whether the file has them.</param>
    /// <param name="original">Of a resized vocabulary, the weight before training, which PEFT saves as well; the part takes ownership.</param>
    internal ReplacedWeight(string module, WeightSlot slot, Parameter value, string fileName, bool inFile, Tensor? original = null)
        : base(module)
    {
        _original = original is null ? null : ($"{module}.original_module.{slot.Name}", original);
        Slot = slot;
        Value = value;
        _fileName = fileName;
        _inFile = inFile;
    }

    /// <summary>The same weight for a second module: an output head that stays tied to the embedding.</summary>
    internal ReplacedWeight(string module, WeightSlot slot, ReplacedWeight other, bool inFile = true, string? fileName = null)
        : this(module, slot, other.Value, fileName ?? $"{module}.{slot.Name}", inFile) => _isOther = true;

    /// <summary>Whether the values are another part's.</summary>
    internal bool IsShared => _isOther;

    /// <summary>The replacing values.</summary>
    public Parameter Value { get; }

    /// <summary>The slot they replace.</summary>
    public WeightSlot Slot { get; }

    /// <summary>Whether the values have another number of rows than the module's own.</summary>
    internal bool Grows => Slot.Own is { } own && own.size(0) != Value.size(0);

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
    internal override IEnumerable<(string Name, Tensor Tensor)> FileTensors() => !_inFile ? []
        : _original is { } original ? [(_fileName, Value), ($"{Module}.modules_to_save.{Slot.Name}", Value), (original.Name, original.Value)]
        : [(_fileName, Value)];

    private protected override void Dispose(bool disposing)
    {
        if (disposing && !_isOther)
        {
            Value.Dispose();
            _original?.Value.Dispose();
        }
    }
}
