using NUnit.Framework;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.LibTorch.Tests.Meaning;

public sealed class RandomTests
{
    private DisposeScope _scope = null!;

    [SetUp]
    public void Open() => _scope = NewDisposeScope();

    [TearDown]
    public void Close() => _scope.Dispose();

    [Test]
    public void The_same_seed_gives_the_same_numbers()
    {
        _ = manual_seed(42);
        var first = randn([100]).Bits();
        var second = randn([100]).Bits();
        _ = manual_seed(42);
        Assert.That(randn([100]).Bits(), Is.EqualTo(first));
        Assert.That(second, Is.Not.EqualTo(first));
        _ = manual_seed(43);
        Assert.That(randn([100]).Bits(), Is.Not.EqualTo(first));
    }

    [Test]
    public void The_state_is_a_copy_that_brings_the_numbers_back()
    {
        _ = manual_seed(1);
        _ = randn([3]);
        var state = get_rng_state();
        var expected = randn([50]).Bits();
        _ = rand([7]);
        set_rng_state(state);
        Assert.That(randn([50]).Bits(), Is.EqualTo(expected));
        Assert.That(state.dtype, Is.EqualTo(ScalarType.Byte));
        set_rng_state(state);
        Assert.That(torch.random.get_rng_state().Bits(), Is.EqualTo(state.Bits()));
    }

    [Test]
    public void A_state_restores_an_odd_number_of_normal_draws()
    {
        // A normal draw makes numbers in pairs; the second waits in the state.
        _ = manual_seed(9);
        _ = randn([1]);
        var state = get_rng_state();
        var expected = randn([5]).Bits();
        set_rng_state(state);
        Assert.That(randn([5]).Bits(), Is.EqualTo(expected));
    }

    [Test]
    public void A_generator_of_its_own_leaves_the_default_alone()
    {
        _ = manual_seed(7);
        var expected = rand([5]).Bits();
        _ = manual_seed(7);
        using var own = new Generator(7);
        using var other = new Generator(8);
        Assert.That(rand([5], generator: own).Bits(), Is.EqualTo(expected));
        Assert.That(rand([5], generator: other).Bits(), Is.Not.EqualTo(expected));
        Assert.That(rand([5]).Bits(), Is.EqualTo(expected));
        Assert.That(own.Handle, Is.Not.EqualTo(other.Handle));
        Assert.That(own.device.type, Is.EqualTo(DeviceType.CPU));
    }

    [Test]
    public void A_generators_state_is_kept_and_restored()
    {
        using var own = new Generator(3);
        _ = rand([4], generator: own);
        var state = own.get_state();
        var expected = rand([20], generator: own).Bits();
        own.set_state(state);
        Assert.That(rand([20], generator: own).Bits(), Is.EqualTo(expected));
        _ = own.manual_seed(3);
        using var again = new Generator(3);
        Assert.That(randn([9], generator: own).Bits(), Is.EqualTo(randn([9], generator: again).Bits()));
    }

    [Test]
    public void Disposing_a_generator_that_was_given_back_harms_nothing()
    {
        var generator = manual_seed(5);
        var expected = rand([4]).Bits();
        generator.Dispose();
        _ = manual_seed(5);
        Assert.That(rand([4]).Bits(), Is.EqualTo(expected));
    }

    [Test]
    public void Draws_follow_their_distributions()
    {
        _ = manual_seed(0);
        var uniform = rand([20_000]).Values();
        Assert.That(uniform.Min(), Is.GreaterThanOrEqualTo(0));
        Assert.That(uniform.Max(), Is.LessThan(1));
        Assert.That(uniform.Average(), Is.EqualTo(0.5).Within(0.01));
        var normal = randn([20_000]).Values();
        Assert.That(normal.Average(), Is.EqualTo(0).Within(0.03));
        Assert.That(normal.Average(static v => v * v), Is.EqualTo(1).Within(0.05));
        Assert.That(zeros(20_000).normal_(3, 2).Values().Average(), Is.EqualTo(3).Within(0.06));
        Assert.That(zeros(20_000).uniform_(-1, 3).Values().Average(), Is.EqualTo(1).Within(0.04));
        var whole = randint(2L, 5L, [1000]).Values();
        Assert.That(whole.Distinct(), Is.EquivalentTo(new double[] { 2, 3, 4 }));
    }

    [Test]
    public void Draws_in_place_take_a_generator()
    {
        using var first = new Generator(4);
        using var second = new Generator(4);
        Assert.That(zeros(30).normal_(generator: first).Bits(), Is.EqualTo(zeros(30).normal_(generator: second).Bits()));
        Assert.That(zeros(30).uniform_(0, 1, first).Bits(), Is.EqualTo(zeros(30).uniform_(0, 1, second).Bits()));
    }
}
