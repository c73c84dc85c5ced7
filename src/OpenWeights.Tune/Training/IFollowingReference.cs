using OpenWeights.Tune.Objectives;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training;

/// <summary>A reference that follows the policy (TR-DPO; Gorbatovski et al., 2024): every few steps it becomes a mixture of both.</summary>
internal interface IFollowingReference : IReferencePolicy
{
    /// <summary>The weights that follow, by name, for a checkpoint.</summary>
    IReadOnlyList<(string Name, Tensor State)> State { get; }

    /// <summary>Sets each weight to share x policy + (1 - share) x reference.</summary>
    /// <param name="share">Share of the policy.</param>
    void Follow(double share);
}

/// <summary>What references that follow have in common.</summary>
internal static class FollowingReferences
{
    /// <summary>Mixes a policy's weight into a reference's.</summary>
    /// <param name="own">The reference's weight; it is changed.</param>
    /// <param name="policy">The policy's.</param>
    /// <param name="share">Share of the policy.</param>
    internal static void Mix(Tensor own, Tensor policy, double share)
    {
        using var nothing = no_grad();
        using Scalar kept = 1 - share;
        using Scalar added = share;
        _ = own.mul_(kept).add_(policy, added);
    }

    /// <summary>Restores the weights that a checkpoint has.</summary>
    /// <param name="reference">The reference.</param>
    /// <param name="read">Reads a tensor by name.</param>
    internal static void Restore(this IFollowingReference reference, Func<string, Tensor> read)
    {
        using var nothing = no_grad();
        foreach (var (name, state) in reference.State)
        {
            using var scope = NewDisposeScope();
            _ = state.copy_(read(name));
        }
    }
}
