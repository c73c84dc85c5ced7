using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Kinds;

/// <summary>OFT's rotation of rows in blocks, from the upper triangles of skew-symmetric matrices.</summary>
/// <param name="config">The settings.</param>
/// <param name="size">Size of a block.</param>
/// <param name="triangles">The triangles, [blocks or 1, size (size - 1) / 2].</param>
internal sealed class OftRotation(OftConfig config, long size, Parameter triangles)
{
    /// <summary>The rows rotated, [rows, features].</summary>
    /// <param name="states">The rows.</param>
    /// <param name="isTraining">Whether blocks are left out (module_dropout).</param>
    internal Tensor Turn(Tensor states, bool isTraining)
    {
        if (config.Coft)
        {
            // As in PEFT the parameter itself is moved back, before its gradient is computed.
            using var nothing = no_grad();
            using var scope = NewDisposeScope();
            _ = triangles.copy_(Constrained());
        }

        var blocks = Blocks(triangles);
        return Rotations.Apply(states, isTraining && config.ModuleDropout > 0 ? DropoutRules.Blocks(blocks, config.ModuleDropout) : blocks);
    }

    /// <summary>The blocks to merge, [blocks or 1, size, size].</summary>
    internal Tensor Merged() => Blocks(config.Coft ? Constrained() : triangles);

    private Tensor Blocks(Tensor from)
    {
        var skew = Rotations.Skew(from, size);
        return config.UseCayleyNeumann ? Rotations.Neumann(skew, config.NumCayleyNeumannTerms) : Rotations.Cayley(skew);
    }

    // Triangles whose matrix is longer than eps are shortened to it; a matrix has each entry of its triangle twice.
    private Tensor Constrained()
    {
        var most = config.Eps / Math.Sqrt(triangles.size(0));
        using Scalar both = Math.Sqrt(2);
        using Scalar limit = most;
        using Scalar least = 1e-30;
        var norms = triangles.norm(1, keepdim: true).mul(both);
        return where(norms.le(limit), triangles, triangles.mul(norms.clamp_min(least).reciprocal().mul(limit)));
    }
}
