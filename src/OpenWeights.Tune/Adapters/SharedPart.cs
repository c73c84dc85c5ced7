using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>The tensors of an adapter that the parts of several modules share, such as the projections of VeRA. It changes no module itself.</summary>
/// <param name="tensors">The tensors by their name in the file; the part takes ownership.</param>
internal sealed class SharedPart(IReadOnlyDictionary<string, (Tensor Tensor, bool IsSaved)> tensors) : AdapterPart("base_model")
{
    private readonly Dictionary<string, (Tensor Tensor, bool IsSaved)> _tensors = new(tensors);

    public override IEnumerable<(string Name, Parameter Parameter)> Parameters => _tensors.Where(static t => t.Value.Tensor is Parameter).Select(static t => (t.Key, (Parameter)t.Value.Tensor));

    public override IEnumerable<string> ChangedTensors => [];

    internal override bool Enabled { get; set; }

    public override Tensor Merged(string tensor, Tensor weight) => throw new NotSupportedException($"{tensor} is not changed by shared tensors.");

    internal override IEnumerable<(string Name, Tensor Tensor)> FileTensors() => _tensors.Where(static t => t.Value.IsSaved).Select(static t => (t.Key, t.Value.Tensor));

    private protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            foreach (var (tensor, _) in _tensors.Values)
            {
                tensor.Dispose();
            }
        }
    }
}
