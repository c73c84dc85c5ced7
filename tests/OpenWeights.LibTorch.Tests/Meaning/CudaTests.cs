using NUnit.Framework;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.LibTorch.Tests.Meaning;

public sealed class CudaTests
{
    private sealed class Squared : autograd.SingleTensorFunction<Squared>
    {
        public override string Name => "Squared";

        public override Tensor forward(autograd.AutogradContext ctx, params object[] vars)
        {
            ctx.save_for_backward([(Tensor)vars[0]]);
            return ((Tensor)vars[0]).square();
        }

        // libtorch calls this on a thread of its own.
        public override List<Tensor> backward(autograd.AutogradContext ctx, Tensor grad_output)
        {
            using var scope = NewDisposeScope();
            return [(ctx.get_saved_variables()[0] * grad_output * 2).MoveToOuterDisposeScope()];
        }
    }

    private DisposeScope _scope = null!;

    [SetUp]
    public void Open()
    {
        if (!cuda.is_available())
        {
            Assert.Ignore("needs an NVIDIA GPU");
        }

        _scope = NewDisposeScope();
    }

    [TearDown]
    public void Close() => _scope?.Dispose();

    [Test]
    public void A_tensor_goes_to_the_gpu_and_back()
    {
        var there = tensor(new float[] { 1, 2, 3 }).pin_memory().to(CUDA);
        Assert.That((there.device_type, there.device.index), Is.EqualTo((DeviceType.CUDA, 0)));
        Assert.That((there * 2).cpu().Values(), Is.EqualTo(new double[] { 2, 4, 6 }));
        Assert.That(there.to(CPU).to(CUDA, copy: true).to(device("cuda:0")).device.ToString(), Is.EqualTo("cuda:0"));
        Assert.That(zeros(2, dtype: ScalarType.BFloat16, device: CUDA).Values(), Is.EqualTo(new double[] { 0, 0 }));
        cuda.synchronize();
        cuda.synchronize(there.device);
    }

    [Test]
    public void A_gradient_is_taken_on_the_gpu_through_a_custom_function()
    {
        var x = tensor(new float[] { 1, 2, 3 }, device: CUDA, requires_grad: true);
        Squared.apply(x * 1).sum().backward();
        Assert.That(x.grad!.Values(), Is.EqualTo(new double[] { 2, 4, 6 }));
    }

    [Test]
    public void The_same_seed_gives_the_same_numbers_on_the_gpu()
    {
        cuda.manual_seed_all(5);
        var first = randn([100], device: CUDA).Values();
        cuda.manual_seed_all(5);
        Assert.That(randn([100], device: CUDA).Values(), Is.EqualTo(first));
    }

    [Test]
    public void Tf32_is_switched()
    {
        var before = backends.cuda.matmul.allow_tf32;
        backends.cuda.matmul.allow_tf32 = !before;
        Assert.That(backends.cuda.matmul.allow_tf32, Is.Not.EqualTo(before));
        backends.cuda.matmul.allow_tf32 = before;
    }
}
