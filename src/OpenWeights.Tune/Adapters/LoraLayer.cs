using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>A low-rank update of a linear layer: s B A x (Hu et al., 2021), computed in the adapter's float32.</summary>
public sealed class LoraLayer : ILinearAdapter, IDisposable
{
    private readonly Scalar _scale;

    internal LoraLayer(string module, Parameter a, Parameter b, double scale, double dropout)
    {
        Module = module;
        A = a;
        B = b;
        Scale = scale;
        _scale = scale;
        Dropout = dropout;
    }

    /// <summary>The adapted layer's name.</summary>
    public string Module { get; }

    /// <summary>The down projection, [rank, in].</summary>
    public Parameter A { get; }

    /// <summary>The up projection, [out, rank].</summary>
    public Parameter B { get; }

    /// <summary>What the update counts, s.</summary>
    public double Scale { get; }

    /// <summary>The share of inputs left out in training.</summary>
    public double Dropout { get; }

    /// <summary>Whether dropout is on.</summary>
    public bool Training { get; set; }

    /// <inheritdoc/>
    public Tensor Apply(LinearLayer layer, Tensor input, Tensor output)
    {
        ArgumentNullException.ThrowIfNull(input);
        ArgumentNullException.ThrowIfNull(output);
        using var scope = NewDisposeScope();
        var states = input.to(A.dtype);
        if (Training && Dropout > 0)
        {
            states = nn.functional.dropout(states, Dropout, training: true);
        }

        var update = nn.functional.linear(nn.functional.linear(states, A), B).mul(_scale);
        return output.Plus(update).to(output.dtype).MoveToOuterDisposeScope();
    }

    /// <summary>The update of the weight, s B A, [out, in], in float32.</summary>
    public Tensor Delta()
    {
        using var scope = NewDisposeScope();
        return B.to(float32).mm(A.to(float32)).mul(_scale).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        A.Dispose();
        B.Dispose();
        _scale.Dispose();
    }
}
