using OpenWeights.Tune.Layers;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>
/// The update of an output head that stays tied to the embedding (ensure_weight_tying): s (B A)ᵀ with the embedding's A and B, which
/// receive gradients from both uses.
/// </summary>
internal sealed class TiedHeadLora : AdapterPart, ILinearAdapter
{
    private readonly EmbeddingLora _embedding;
    private readonly Scalar _scale;

    internal TiedHeadLora(string module, LinearLayer target, EmbeddingLora embedding)
        : base(module)
    {
        Target = target;
        _embedding = embedding;
        _scale = embedding.Scale;
    }

    /// <summary>The head.</summary>
    internal LinearLayer Target { get; }

    public override IEnumerable<(string Name, Parameter Parameter)> Parameters => [];

    // The head shares the embedding's tensor, which the embedding's part changes.
    public override IEnumerable<string> ChangedTensors => [];

    internal override bool Enabled
    {
        get => Target.Adapter == this;
        set => Target.Adapter = value ? this : null;
    }

    public Tensor Apply(LinearLayer layer, Tensor input, Tensor output)
    {
        ArgumentNullException.ThrowIfNull(input);
        ArgumentNullException.ThrowIfNull(output);
        using var scope = NewDisposeScope();
        var update = nn.functional.linear(nn.functional.linear(input.to(_embedding.B.dtype), _embedding.B.t()), _embedding.A.t()).mul(_scale);
        return output.add(update).to(output.dtype).MoveToOuterDisposeScope();
    }

    public override Tensor Merged(string tensor, Tensor weight) => throw new InvalidOperationException($"{Module} changes no tensor of its own");

    // As in PEFT's files: A and B of the head are the transposed B and A of the embedding.
    internal override IEnumerable<(string Name, Tensor Tensor)> FileTensors() =>
        [($"{Module}.lora_A.weight", _embedding.B.detach().t()), ($"{Module}.lora_B.weight", _embedding.A.detach().t())];

    private protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _scale.Dispose();
        }
    }
}
