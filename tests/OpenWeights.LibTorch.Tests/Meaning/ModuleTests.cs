using NUnit.Framework;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace OpenWeights.LibTorch.Tests.Meaning;

public sealed class ModuleTests
{
    private sealed class Scaled : nn.Module<Tensor, Tensor>
    {
        [ComponentName(Name = "gain")]
        private readonly Parameter _gain;

        internal Scaled(double gain)
            : base(nameof(Scaled))
        {
            _gain = new Parameter(full([2], gain));
            RegisterComponents();
        }

        internal Parameter Gain => _gain;

        public override Tensor forward(Tensor input) => input * _gain;
    }

    private sealed class Pair : nn.Module<Tensor, Tensor, Tensor>
    {
        [ComponentName(Name = "left_part")]
        private readonly Scaled _left = new(2);

        private readonly ModuleList<Scaled> layers = new(new Scaled(3), new Scaled(4));

        private readonly Parameter bias = new(zeros(2), requires_grad: false);

        private readonly Tensor table = ones(3);

        private readonly Scaled? _absent;

        internal Pair(Scaled? absent = null)
            : base("pair")
        {
            _absent = absent;
            RegisterComponents();
        }

        internal bool HasAbsent => _absent is not null;

        internal ModuleList<Scaled> Layers => layers;

        internal Tensor Table => table;

        public override Tensor forward(Tensor input1, Tensor input2)
        {
            var sum = _left.call(input1) + bias + table.sum();
            return layers.Aggregate(sum, static (value, layer) => layer.call(value)) + input2;
        }
    }

    private abstract class Base(string name) : nn.Module(name)
    {
        protected readonly Parameter common = new(ones(1));
    }

    private sealed class Derived : Base
    {
        private readonly Parameter own = new(ones(1));

        internal Derived()
            : base("derived") => RegisterComponents();

        internal bool IsWhole => !own.IsInvalid && !common.IsInvalid;
    }

    private sealed class Tied : nn.Module
    {
        private readonly Parameter first = new(ones(1));
        private readonly Parameter second;

        internal Tied()
            : base("tied")
        {
            second = first;
            RegisterComponents();
        }

        internal Parameter Second => second;
    }

    private sealed class ByHand : nn.Module
    {
        internal ByHand()
            : base("by_hand")
        {
        }
    }

    [Test]
    public void Components_are_named_by_their_fields_or_as_their_attribute_says_in_their_order()
    {
        using var pair = new Pair();
        Assert.That(pair.named_parameters().Select(static p => p.name), Is.EqualTo(new[] { "bias", "left_part.gain", "layers.0.gain", "layers.1.gain" }));
        Assert.That(pair.named_modules().Select(static c => c.name), Is.EqualTo(new[] { "left_part", "layers", "layers.0", "layers.1" }));
        Assert.That(pair.parameters(recurse: false).Count(), Is.EqualTo(1));
        Assert.That(pair.HasAbsent, Is.False);
    }

    [Test]
    public void The_parameters_are_the_fields_own_objects()
    {
        using var scaled = new Scaled(2);
        Assert.That(scaled.parameters().Single(), Is.SameAs(scaled.Gain));
        Assert.That(scaled.named_parameters().Single().parameter, Is.SameAs(scaled.Gain));
    }

    [Test]
    public void What_a_base_class_declares_is_registered_too()
    {
        using var derived = new Derived();
        Assert.That(derived.named_parameters().Select(static p => p.name), Is.EquivalentTo(new[] { "own", "common" }));
        Assert.That(derived.IsWhole, Is.True);
    }

    [Test]
    public void A_parameter_in_two_places_counts_once()
    {
        using var tied = new Tied();
        Assert.That(tied.parameters().Single(), Is.SameAs(tied.Second));
    }

    [Test]
    public void A_module_is_called_with_its_inputs()
    {
        using var scope = NewDisposeScope();
        using var pair = new Pair();
        Assert.That(pair.call(ones(2), full([2], 0.5)).Values(), Is.EqualTo(new[] { 60.5, 60.5 }));
        Assert.That(pair.forward(ones(2), zeros(2)).Values(), Is.EqualTo(new double[] { 60, 60 }));
    }

    [Test]
    public void Training_and_evaluation_reach_every_part()
    {
        using var pair = new Pair();
        var parts = pair.named_modules().Select(static m => m.module).Append(pair).ToArray();
        Assert.That(parts.All(static m => m.training), Is.True);
        pair.train(false);
        Assert.That(parts.Any(static m => m.training), Is.False);
        pair.train();
        Assert.That(parts.All(static m => m.training), Is.True);
    }

    [Test]
    public void Gradients_are_dropped_or_zeroed()
    {
        using var scope = NewDisposeScope();
        using var pair = new Pair();
        pair.call(ones(2), ones(2)).sum().backward();
        Assert.That(pair.parameters().Select(static p => p.grad is not null), Is.EqualTo(new[] { false, true, true, true }));
        pair.zero_grad(set_to_none: false);
        Assert.That(pair.parameters().Skip(1).SelectMany(static p => p.grad!.Values()), Is.All.Zero);
        pair.zero_grad();
        Assert.That(pair.parameters().Select(static p => p.grad), Is.All.Null);
    }

    [Test]
    public void Disposing_a_module_disposes_all_that_it_holds()
    {
        var before = Tensor.TotalCount;
        var pair = new Pair();
        var held = pair.parameters().Append(pair.Table).ToArray();
        pair.Dispose();
        pair.Dispose();
        Assert.That(held.Select(static t => t.IsInvalid), Is.All.True);
        Assert.That(held, Has.Length.EqualTo(5));
        Assert.That(Tensor.TotalCount, Is.LessThanOrEqualTo(before + 4), "at most the wrappers that parameters took the place of");
    }

    [Test]
    public void A_part_is_registered_under_one_name_once()
    {
        using var module = new ByHand();
        module.register_parameter("weight", new Parameter(ones(1)));
        module.register_buffer("table", ones(1));
        module.register_module("part", new Scaled(1));
        Assert.That(module.named_parameters().Select(static p => p.name), Is.EqualTo(new[] { "weight", "part.gain" }));
        using var again = new Parameter(ones(1));
        using var part = new Scaled(1);
        Assert.That(() => module.register_parameter("weight", again), Throws.InvalidOperationException);
        Assert.That(() => module.register_buffer("table", again), Throws.InvalidOperationException);
        Assert.That(() => module.register_module("part", part), Throws.InvalidOperationException);
        Assert.That(() => module.register_module("a.b", part), Throws.ArgumentException);
    }

    [Test]
    public void A_list_is_a_list_and_registers_its_modules_by_number()
    {
        using var list = new ModuleList<Scaled>(new Scaled(1));
        list.Add(new Scaled(2));
        Assert.That((list.Count, list[1].Gain.Values()[0], list.IndexOf(list[1]), list.Contains(list[0])), Is.EqualTo((2, 2.0, 1, true)));
        using var holder = new ByHand();
        holder.register_module("blocks", list);
        Assert.That(holder.named_parameters().Select(static p => p.name), Is.EqualTo(new[] { "blocks.0.gain", "blocks.1.gain" }));
    }

    [Test]
    public void A_module_made_in_a_scope_loses_its_parameters_with_it_unless_they_leave()
    {
        Scaled lost, kept;
        using (NewDisposeScope())
        {
            lost = new Scaled(1);
            kept = new Scaled(1);
            foreach (var parameter in kept.parameters())
            {
                _ = parameter.DetachFromDisposeScope();
            }
        }

        Assert.That((lost.Gain.IsInvalid, kept.Gain.IsInvalid), Is.EqualTo((true, false)));
        Assert.That(lost.parameters(), Is.Empty);
        kept.Dispose();
        lost.Dispose();
    }
}
