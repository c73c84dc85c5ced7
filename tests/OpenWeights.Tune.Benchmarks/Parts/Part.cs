using BenchmarkDotNet.Attributes;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Benchmarks.Parts;

/// <summary>A part of a step in two ways: as the library computes it, and as a composition of torch's own operators. Both give the same numbers.</summary>
public abstract class Part : IRated
{
    private readonly List<Tensor> _kept = [];

    /// <summary>float32 or bfloat16.</summary>
    [Params("float32", "bfloat16")]
    public string Precision { get; set; } = "float32";

    /// <summary>The shape: a model of this hidden size reads 2,048 tokens, in rows of as many tokens as its hidden size.</summary>
    [Params(512, 1024, 2048)]
    public int HiddenSize { get; set; } = 512;

    /// <summary>Use the sizes of a test instead of those of a training step.</summary>
    internal bool IsSmall { get; init; }

    /// <summary>What one run does: operations or bytes, as <see cref="Unit"/> says.</summary>
    internal abstract double Work { get; }

    /// <summary>GFLOP/s or GB/s.</summary>
    internal virtual string Unit => "GFLOP/s";

    double IRated.Work => Work;

    string IRated.Unit => Unit;

    /// <summary>Tokens of a step, all rows together.</summary>
    private protected const long StepTokens = 2048;

    /// <summary>Tokens of a row.</summary>
    private protected long RowTokens => HiddenSize;

    /// <summary>The width of the feed-forward's inner layer.</summary>
    private protected long InnerSize => HiddenSize * 43 / 16;

    /// <summary>The dtype of <see cref="Precision"/>.</summary>
    private protected ScalarType DType => Precision == "bfloat16" ? bfloat16 : float32;

    /// <summary>Makes the inputs.</summary>
    [GlobalSetup]
    public void Setup()
    {
        Devices.UseAllCores();
        _ = random.manual_seed(1);
        using var scope = NewDisposeScope();
        Prepare();
    }

    /// <summary>Frees the inputs.</summary>
    [GlobalCleanup]
    public virtual void Cleanup()
    {
        _kept.ForEach(static t => t.Dispose());
        _kept.Clear();
    }

    /// <summary>torch's operators.</summary>
    [Benchmark(Baseline = true, Description = "torch")]
    public void Composed()
    {
        using var scope = NewDisposeScope();
        _ = Composition();
    }

    /// <summary>The library.</summary>
    [Benchmark(Description = "owt")]
    public void Library()
    {
        using var scope = NewDisposeScope();
        _ = Own();
    }

    /// <summary>What the library computes, in the dispose scope that is open.</summary>
    internal abstract IReadOnlyList<Tensor> Own();

    /// <summary>The same by torch's operators.</summary>
    internal abstract IReadOnlyList<Tensor> Composition();

    private protected abstract void Prepare();

    private protected long Size(long full, long small) => IsSmall ? small : full;

    /// <summary>Random numbers in the dtype, kept until the cleanup.</summary>
    private protected Tensor Random(params long[] shape) => Keep(randn(shape).to(DType));

    private protected Tensor Keep(Tensor tensor)
    {
        _kept.Add(tensor.DetachFromDisposeScope());
        return tensor;
    }

    /// <summary>The value of some work and the gradients of what it reads, for the loss value x weight.</summary>
    private protected static IReadOnlyList<Tensor> WithGradients(Func<Tensor[], Tensor> work, Tensor weight, params Tensor[] inputs)
    {
        Tensor[] leaves = [.. inputs.Select(static i => i.detach().requires_grad_())];
        var value = work(leaves);
        value.mul(weight).sum().backward();
        return [value.detach(), .. leaves.Select(static l => l.grad!)];
    }
}
