using OpenWeights.Tune.Layers;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>
/// The update of an output head that is one weight with the embedding and stays so (ensure_weight_tying): s (B A)ᵀ of the embedding's own A
/// and B, which are trained once and get the gradients of both ends.
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

    // The head is the embedding's tensor, which the embedding's part changes.
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

    // As PEFT writes it: A and B of the head are the embedding's, turned over.
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
