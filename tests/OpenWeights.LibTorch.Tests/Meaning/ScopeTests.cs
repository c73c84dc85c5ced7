using NUnit.Framework;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.LibTorch.Tests.Meaning;

public sealed class ScopeTests
{
    [Test]
    public void A_scope_disposes_what_was_made_in_it()
    {
        Tensor inside;
        using var outside = ones(1);
        using (var scope = NewDisposeScope())
        {
            inside = ones(1) + outside;
            Assert.That(scope.Contains(inside), Is.True);
            Assert.That(scope.Contains(outside), Is.False);
            Assert.That(CurrentDisposeScope, Is.SameAs(scope));
        }

        Assert.That(inside.IsInvalid, Is.True);
        Assert.That(outside.IsInvalid, Is.False);
        Assert.That(CurrentDisposeScope, Is.Null);
    }

    [Test]
    public void Scopes_nest_and_a_tensor_moves_outwards()
    {
        Tensor kept, dropped, free;
        using (var outer = NewDisposeScope())
        {
            using (var inner = NewDisposeScope())
            {
                kept = ones(1);
                dropped = ones(1);
                free = ones(1);
                Assert.That(kept.MoveToOuterDisposeScope(), Is.SameAs(kept));
                Assert.That(free.DetachFromDisposeScope(), Is.SameAs(free));
                Assert.That(inner.DisposablesCount, Is.EqualTo(1));
            }

            Assert.That(outer.Contains(kept), Is.True);
            Assert.That(dropped.IsInvalid, Is.True);
        }

        Assert.That(kept.IsInvalid, Is.True);
        Assert.That(free.IsInvalid, Is.False);
        free.Dispose();
    }

    [Test]
    public void Moving_out_of_the_outermost_scope_detaches()
    {
        Tensor moved;
        using (var scope = NewDisposeScope())
        {
            moved = scope.MoveToOuter(ones(1));
        }

        Assert.That(moved.IsInvalid, Is.False);
        moved.Dispose();
    }

    [Test]
    public void Many_are_moved_and_detached_at_once()
    {
        using var outer = NewDisposeScope();
        Tensor a, b, c;
        using (var inner = NewDisposeScope())
        {
            (a, b, c) = (ones(1), ones(1), ones(1));
            inner.MoveToOuter(a, b);
            inner.Detach((IEnumerable<IDisposable>)[c]);
        }

        Assert.That((outer.Contains(a), outer.Contains(b), c.IsInvalid), Is.EqualTo((true, true, false)));
        outer.Attach(c);
        Assert.That(outer.Contains(c), Is.True);
    }

    [Test]
    public void A_tensor_moves_to_a_scope_that_is_named()
    {
        using var first = NewDisposeScope();
        var tensor = ones(1);
        using (var second = NewDisposeScope())
        {
            _ = tensor.MoveToOtherDisposeScope(second);
            Assert.That((first.Contains(tensor), second.Contains(tensor)), Is.EqualTo((false, true)));
            _ = second.MoveToOther(first, tensor);
            Assert.That((first.Contains(tensor), second.Contains(tensor)), Is.EqualTo((true, false)));
            _ = tensor.DetachFromDisposeScope().MoveToOtherDisposeScope(second);
        }

        Assert.That(tensor.IsInvalid, Is.True);
    }

    [Test]
    public void Everything_but_some_is_disposed_at_once()
    {
        using var scope = NewDisposeScope();
        var (kept, dropped) = (ones(1), ones(1));
        scope.DisposeEverythingBut((IEnumerable<IDisposable>)[kept]);
        Assert.That((kept.IsInvalid, dropped.IsInvalid, scope.DisposablesCount), Is.EqualTo((false, true, 1)));
        scope.DisposeEverything();
        Assert.That((kept.IsInvalid, scope.DisposablesCount), Is.EqualTo((true, 0)));
    }

    [Test]
    public void A_tensor_disposed_by_hand_leaves_its_scope()
    {
        using var scope = NewDisposeScope();
        var tensor = ones(1);
        tensor.Dispose();
        tensor.Dispose();
        Assert.That(scope.DisposablesCount, Is.Zero);
    }

    [Test]
    public void An_outer_scope_may_close_before_an_inner_one()
    {
        var outer = NewDisposeScope();
        var inner = NewDisposeScope();
        outer.Dispose();
        var tensor = ones(1);
        Assert.That(inner.Contains(tensor), Is.True);
        inner.Dispose();
        inner.Dispose();
        Assert.That(tensor.IsInvalid, Is.True);
        Assert.That(CurrentDisposeScope, Is.Null);
    }

    [Test]
    public void A_closed_scope_takes_nothing()
    {
        var scope = NewDisposeScope();
        scope.Dispose();
        using var tensor = ones(1);
        Assert.That(() => scope.Attach(tensor), Throws.InstanceOf<ObjectDisposedException>());
        Assert.That(() => scope.DisposablesCount, Throws.InstanceOf<ObjectDisposedException>());
    }

    [Test]
    public void A_scope_belongs_to_its_thread()
    {
        using var scope = NewDisposeScope();
        Tensor? made = null;
        DisposeScope? theirs = scope;
        Run(() =>
        {
            theirs = CurrentDisposeScope;
            made = ones(1);
        });
        Assert.That(theirs, Is.Null);
        Assert.That(scope.Contains(made!), Is.False);
        made!.Dispose();
    }

    [Test]
    public void The_threads_statistics_count_what_was_made_moved_and_disposed() => Run(() =>
    {
        var counts = DisposeScopeManager.Statistics.TensorStatistics;
        Tensor detached;
        using (var scope = NewDisposeScope())
        {
            var (a, b) = (ones(1), ones(1));
            detached = ones(1).DetachFromDisposeScope();
            a.Dispose();
            Assert.That(b.IsInvalid, Is.False);
        }

        Assert.That((counts.CreatedInScopeCount, counts.DisposedInScopeCount, counts.DetachedFromScopeCount), Is.EqualTo((3L, 2L, 1L)));
        using (var scope = NewDisposeScope())
        {
            scope.Attach(detached);
        }

        using (var free = ones(1))
        {
            Assert.That(counts.CreatedOutsideScopeCount, Is.EqualTo(1));
        }

        Assert.That((counts.AttachedToScopeCount, counts.DisposedOutsideScopeCount, counts.ThreadTotalLiveCount), Is.EqualTo((1L, 1L, 0L)));
    });

    [Test]
    public void The_total_count_follows_every_tensor()
    {
        var before = Tensor.TotalCount;
        using (NewDisposeScope())
        {
            var parts = ones(6).split(2);
            Assert.That(Tensor.TotalCount - before, Is.EqualTo(1 + parts.Length));
        }

        Assert.That(Tensor.TotalCount, Is.EqualTo(before));
    }

    [Test]
    public void A_tensor_is_not_used_after_its_end()
    {
        var tensor = ones(2);
        tensor.Dispose();
        Assert.That(() => tensor.Handle, Throws.InvalidOperationException);
        Assert.That(() => tensor.sum(), Throws.InvalidOperationException);
        Assert.That(() => tensor.shape, Throws.InvalidOperationException);
        Assert.That(() => tensor + 1, Throws.InvalidOperationException);
        using var other = ones(2);
        Assert.That(() => other.add(tensor), Throws.InvalidOperationException);
        Assert.That(() => other.add_(tensor), Throws.InvalidOperationException);
    }

    private static void Run(Action action)
    {
        Exception? failure = null;
        var thread = new Thread(() =>
        {
            try
            {
                action();
            }
            catch (Exception e)
            {
                failure = e;
            }
        });
        thread.Start();
        thread.Join();
        Assert.That(failure, Is.Null);
    }
}
