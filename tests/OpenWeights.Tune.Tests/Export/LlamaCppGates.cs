using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Export;

/// <summary>
/// llama.cpp's arithmetic of Gemma 3n's gates in our model, so that their logits can be compared more closely: GELU by a table of float16 numbers, and
/// in the sparse layers a standard deviation that divides by one less than the number of gates.
/// </summary>
internal static class LlamaCppGates
{
    private const int SparseLayers = 10;

    // The number of standard deviations above which a twentieth of normally distributed numbers lies, as in llama.cpp's source.
    private const double Deviations = 1.6448533535003662;

    /// <summary>Puts it on a model, whose adapters stay on.</summary>
    internal static void Use(CausalLanguageModel model)
    {
        var layers = model.LinearLayers.ToDictionary(static l => l.Name, static l => l.Layer);
        for (var i = 0; i < model.LayerCount; i++)
        {
            var name = model.Config.Names.Layer(i);
            var isSparse = i < SparseLayers;
            var (gate, up) = (new Watch(layers[$"{name}.mlp.gate_proj"]), new Watch(layers[$"{name}.mlp.up_proj"]));
            _ = new Watch(layers[$"{name}.mlp.down_proj"], _ => Gelu(isSparse ? Largest(gate.Output) : gate.Output).mul(up.Output));
            var own = new Watch(layers[$"{name}.per_layer_input_gate"]);
            _ = new Watch(layers[$"{name}.per_layer_projection"], input => input.mul(Ratio(own.Output)));
        }
    }

    private static Tensor Gelu(Tensor x)
    {
        var table = Exact(x.to(float16).to(float32)).to(float16).to(float32);
        using Scalar far = 10.0;
        return where(x.ge(far), x, where(x.le(-10.0), zeros_like(x), table));
    }

    private static Tensor Exact(Tensor x)
    {
        var wide = x.to(float64);
        var inner = wide.mul(Math.Sqrt(2 / Math.PI)).mul(wide.mul(wide).mul(0.044715).add(1));
        return wide.mul(0.5).mul(inner.tanh().add(1)).to(float32);
    }

    // What the input of the projection is to be multiplied by.
    private static Tensor Ratio(Tensor gate)
    {
        var exact = Exact(gate);
        return where(exact.eq(0), ones_like(exact), Gelu(gate).div(exact));
    }

    private static Tensor Largest(Tensor gate)
    {
        var mean = gate.mean([-1], keepdim: true);
        var deviation = gate.sub(mean).square().sum(-1, keepdim: true).div(gate.size(-1) - 1).sqrt();
        return gate.sub(mean.add(deviation.mul(Deviations))).relu();
    }

    // Keeps the output of a layer, and may compute its input.
    private sealed class Watch : ILinearAdapter
    {
        private readonly ILinearAdapter? _inner;
        private readonly Func<Tensor, Tensor>? _input;

        internal Watch(LinearLayer layer, Func<Tensor, Tensor>? input = null)
        {
            (_inner, _input) = (layer.Adapter, input);
            layer.Adapter = this;
        }

        internal Tensor Output { get; private set; } = null!;

        public Tensor Apply(LinearLayer layer, Tensor input, Tensor output)
        {
            if (_input is not null)
            {
                input = _input(input);
                output = nn.functional.linear(input, layer.Weight, layer.Bias);
            }

            // It outlives the scope of the layer's call.
            var result = _inner?.Apply(layer, input, output) ?? output.alias();
            Output = result.alias().DetachFromDisposeScope();
            return result;
        }
    }
}
