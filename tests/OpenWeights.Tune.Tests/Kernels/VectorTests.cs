using System.Runtime.Intrinsics;
using NUnit.Framework;
using OpenWeights.Tune.Kernels;

namespace OpenWeights.Tune.Tests.Kernels;

/// <summary>What kernels are made of, for each width of vectors, against float64.</summary>
public sealed unsafe class VectorTests
{
    [Test]
    public void Exponentials_are_those_of_float64_over_the_whole_range()
    {
        Check(Of<Vectors256, Vector256<float>>);
        if (CpuKernel.IsWide)
        {
            Check(Of<Vectors512, Vector512<float>>);
        }

        static void Check(Func<float, float> exponential)
        {
            for (var x = -110f; x < 95; x += 0.00731f)
            {
                var (wanted, got) = (Math.Exp(x), exponential(x));

                // Numbers below float32's smallest normal one have fewer digits.
                var near = Math.Max(wanted * 1.5e-7, 1.5e-45);
                Assert.That(wanted > float.MaxValue ? float.IsPositiveInfinity(got) || got > 3e38f : Math.Abs(got - wanted) <= near, $"exp({x}) = {got}");
            }

            Assert.That(exponential(float.NegativeInfinity), Is.Zero);
            Assert.That(exponential(float.PositiveInfinity), Is.EqualTo(float.PositiveInfinity));
            Assert.That(exponential(float.NaN), Is.NaN);
            Assert.That(exponential(0), Is.EqualTo(1));
        }
    }

    [Test]
    public void Hyperbolic_tangents_are_those_of_float64_over_the_whole_range()
    {
        Check(Tangent<Vectors256, Vector256<float>>);
        if (CpuKernel.IsWide)
        {
            Check(Tangent<Vectors512, Vector512<float>>);
        }

        static void Check(Func<float, float> tangent)
        {
            for (var x = -12f; x < 12; x += 0.00117f)
            {
                Assert.That(tangent(x), Is.EqualTo(Math.Tanh(x)).Within(Math.Abs(x) < 0.24 ? 3e-7 * Math.Abs(x) : 2e-7), $"tanh({x})");
            }

            Assert.That((tangent(0), tangent(1e-20f), tangent(-3e38f), tangent(float.PositiveInfinity)), Is.EqualTo((0f, 1e-20f, -1f, 1f)));
            Assert.That(tangent(float.NaN), Is.NaN);
        }
    }

    [Test]
    public void Products_of_tiles_are_those_of_float64_for_every_shape_and_order(
        [Values(1, 5, 6, 8, 13, 96)] int rows, [Values(1, 2, 3, 5)] int vectors, [Values(1, 3, 96, 401)] int depth, [Values] bool across, [Values] bool adds)
    {
        Check<Vectors256, Vector256<float>>(rows, vectors, depth, across, adds);
        if (CpuKernel.IsWide)
        {
            Check<Vectors512, Vector512<float>>(rows, vectors, depth, across, adds);
        }
    }

    private static void Check<TVectors, TVector>(int rows, int vectors, int depth, bool across, bool adds)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        var random = new Random(rows + vectors + depth);
        float[] Draw(int count) => [.. Enumerable.Range(0, count).Select(_ => (float)random.NextDouble() - 0.5f)];
        var (columns, spare) = (vectors * TVectors.Width, 3);
        var (left, right, target) = (Draw(rows * depth), Draw(depth * (columns + spare)), Draw(rows * (columns + spare)));
        var before = target.ToArray();
        fixed (float* a = left, b = right, c = target)
        {
            var factor = across ? new TileProduct.Factor(a, 1, rows) : new TileProduct.Factor(a, depth, 1);
            TileProduct.Run<TVectors, TVector>(factor, b, columns + spare, new TileProduct.Target(c, columns + spare, adds), rows, columns, depth);
        }

        for (var row = 0; row < rows; row++)
        {
            for (var column = 0; column < columns + spare; column++)
            {
                var place = (row * (columns + spare)) + column;
                var sum = column >= columns || adds ? (double)before[place] : 0;
                for (var i = 0; i < depth && column < columns; i++)
                {
                    sum += (double)(across ? left[(i * rows) + row] : left[(row * depth) + i]) * right[(i * (columns + spare)) + column];
                }

                Assert.That(target[place], Is.EqualTo(sum).Within(5e-7 + (2e-8 * depth)), $"row {row}, column {column}");
            }
        }
    }

    private static float Tangent<TVectors, TVector>(float x)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        var places = stackalloc float[16];
        TVectors.Store(places, VectorFunctions.HyperbolicTangent<TVectors, TVector>(TVectors.Create(x)));
        return places[TVectors.Width - 1];
    }

    private static float Of<TVectors, TVector>(float x)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        var places = stackalloc float[16];
        TVectors.Store(places, VectorFunctions.Exponential<TVectors, TVector>(TVectors.Create(x)));
        return places[TVectors.Width - 1];
    }
}
