using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Starts;

/// <summary>Random A and B = 0: uniform in ±1 / sqrt(in), or normal with standard deviation 1 / rank.</summary>
internal static class RandomStart
{
    internal static LoraWeights Make(StartContext context)
    {
        using var scope = NewDisposeScope();
        var a = Draw(context.Config.Init, context.Rank, context.Rank, context.Layer.InFeatures, context.Generator!);
        return new LoraWeights(scope.Detach(a.to(float32, context.Device)), scope.Detach(zeros([context.Layer.OutFeatures, context.Rank], float32, context.Device)));
    }

    /// <summary>Rows of A, [rows, input].</summary>
    /// <param name="init">The initialization.</param>
    /// <param name="rank">Rank of the update.</param>
    /// <param name="rows">Number of rows.</param>
    /// <param name="input">Number of input features.</param>
    /// <param name="generator">Source of the random numbers.</param>
    internal static Tensor Draw(LoraInit init, int rank, long rows, long input, Generator generator)
    {
        var bound = 1 / Math.Sqrt(input);
        var random = empty([rows, input], float32);
        return init == LoraInit.Gaussian ? random.normal_(0, 1.0 / rank, generator) : random.uniform_(-bound, bound, generator);
    }
}
