using System.Runtime.InteropServices;
using NUnit.Framework;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Optimizers;
using OpenWeights.Tune.Quantization;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Optimizers;

/// <summary>Optimizers against their formulas in float64 on plain arrays.</summary>
public sealed class OptimizerTests
{
    private const int Rows = 60;
    private const int Columns = 90;
    private const int Steps = 4;
    private const double Rate = 0.01;
    private const double Decay = 0.1;

    [TestCase("adamw", 2)]
    [TestCase("sgd", 1)]
    [TestCase("lion", 1)]
    [TestCase("adafactor", 2)]
    public void Steps_are_those_of_the_formula_in_float64(string name, int states)
    {
        var (start, gradients) = Numbers(name == "lion" ? 1 : 0);
        using var run = new Run(name, start, float32);
        var expected = start.Select(static v => (double)v).ToArray();
        var formula = Formula(name);
        for (var step = 0; step < Steps; step++)
        {
            run.Step(gradients[step], Rate);
            formula(expected, gradients[step], step + 1);
        }

        Assert.That(run.Weights(), Is.EqualTo(expected).Within(2e-6));
        Assert.That(run.Optimizer.State, Has.Count.EqualTo(states));
    }

    [Test]
    public void AdamW_in_8_bits_is_bitsandbytes_recomputed()
    {
        var (start, gradients) = Numbers(0);
        using var run = new Run("adamw_8bit", start, float32);
        var expected = start.Select(static v => (double)v).ToArray();
        var formula = EightBit();
        for (var step = 0; step < Steps; step++)
        {
            run.Step(gradients[step], Rate);
            formula(expected, gradients[step], step + 1);
        }

        // Where float32 and float64 fall on two sides of a code's border, one level lies between them: rare, and small.
        var differences = run.Weights().Zip(expected, static (a, b) => Math.Abs(a - b)).ToList();
        Assert.That(differences.Count(static d => d > 2e-6), Is.LessThan(differences.Count / 200));
        Assert.That(differences.Max(), Is.LessThan(Rate / 4));
    }

    [Test]
    public void The_8_bit_codes_are_those_of_bitsandbytes()
    {
        // create_dynamic_map(signed=True) and (signed=False): the ends, the middle and the number of levels.
        var (signed, unsigned) = (DynamicCode.Levels(signed: true), DynamicCode.Levels(signed: false));
        Assert.That(signed, Has.Length.EqualTo(256).And.Unique.And.Ordered);
        Assert.That(unsigned, Has.Length.EqualTo(256).And.Unique.And.Ordered);
        Assert.That(new[] { signed[0], signed[127], signed[128], signed[254], signed[255] }, Is.EqualTo(new[] { -0.9929688f, 0f, 5.5e-7f, 0.9929688f, 1f }).Within(1e-7));
        Assert.That(new[] { unsigned[0], unsigned[1], unsigned[254], unsigned[255] }, Is.EqualTo(new[] { 0f, 3.25e-7f, 0.9964844f, 1f }).Within(1e-7));
    }

    [Test]
    public void AdamW_in_8_bits_holds_a_quarter_of_AdamWs_state()
    {
        var (start, _) = Numbers(0);
        using var whole = new Run("adamw", start, float32);
        using var small = new Run("adamw_8bit", start, float32);
        static long Bytes(Run run) => run.Optimizer.State.Sum(static s => s.State.numel() * s.State.element_size());
        Assert.That((double)Bytes(small) / Bytes(whole), Is.LessThan(0.26));
    }

    [TestCase("adamw", "master_weights")]
    [TestCase("adamw", "stochastic_rounding")]
    [TestCase("lion", "stochastic_rounding")]
    [TestCase("sgd", "master_weights")]
    public void Many_small_steps_of_a_bfloat16_parameter_add_up(string name, string rounding)
    {
        // Each step is a hundredth of bfloat16's last bit at 1.
        var start = Enumerable.Repeat(1f, 4096).ToArray();
        using var run = new Run(name, start, bfloat16, rounding, decay: 0);
        _ = manual_seed(11);
        var gradient = Enumerable.Repeat(1f, start.Length).ToArray();
        for (var step = 0; step < 400; step++)
        {
            run.Step(gradient, 1e-4);
        }

        Assert.That(run.Weights().Average(), Is.EqualTo(1 - 0.04).Within(2e-3));
    }

    [Test]
    public void Stochastic_rounding_keeps_what_bfloat16_holds_and_is_right_on_average()
    {
        using var scope = NewDisposeScope();
        _ = manual_seed(3);
        var exact = tensor(new[] { 1f, -2.5f, 0f, 384f, -1.5e-20f }).to(bfloat16).to(float32);
        Assert.That(StochasticRounding.ToBFloat16(exact).to(float32).eq(exact).all().ToBoolean());
        using Scalar value = 1 + (0.3 / 128);
        var many = StochasticRounding.ToBFloat16(zeros([200_000], float32).fill_(value)).to(float32);
        Assert.That(many.to(float64).mean().ToDouble(), Is.EqualTo(1 + (0.3 / 128)).Within(0.01 / 128));
        Assert.That(many.min().ToSingle(), Is.EqualTo(1f));
        Assert.That(many.max().ToSingle(), Is.EqualTo(1 + (1f / 128)));
    }

    [Test]
    public void A_rate_factor_multiplies_the_rate_of_its_parameter()
    {
        var (start, gradients) = Numbers(0);
        foreach (var name in OptimizerKinds.Names)
        {
            using var twice = new Run(name, start, float32, factor: 2);
            using var plain = new Run(name, start, float32);
            twice.Step(gradients[0], Rate);
            plain.Step(gradients[0], 2 * Rate);
            Assert.That(twice.Weights(), Is.EqualTo(plain.Weights()), name);
        }
    }

    [Test]
    public void Every_name_of_the_config_is_an_optimizer()
    {
        var setting = SettingInfo.Of(typeof(TrainingSection)).First(static s => s.Key == "optimizer").Setting;
        Assert.That(OptimizerKinds.Names, Is.EquivalentTo(setting.OneOf));
    }

    private static (float[] Start, float[][] Gradients) Numbers(double shift)
    {
        var random = new Random(4);
        float[] Draw(double scale) => [.. Enumerable.Range(0, Rows * Columns).Select(_ => (float)((random.NextDouble() - 0.5 + (shift * Math.Sign(random.NextDouble() - 0.5))) * scale))];
        return (Draw(1), [.. Enumerable.Range(0, Steps).Select(_ => Draw(0.3))]);
    }

    private static Action<double[], float[], int> Formula(string name)
    {
        var (first, second) = (new double[Rows * Columns], new double[Rows * Columns]);
        var (rows, columns) = (new double[Rows], new double[Columns]);
        return name switch
        {
            "adamw" => (w, g, t) => Each(w, i =>
            {
                w[i] *= 1 - (Rate * Decay);
                first[i] = (0.9 * first[i]) + (0.1 * g[i]);
                second[i] = (0.95 * second[i]) + (0.05 * g[i] * g[i]);
                w[i] -= Rate * (first[i] / (1 - Math.Pow(0.9, t))) / (Math.Sqrt(second[i] / (1 - Math.Pow(0.95, t))) + 1e-8);
            }),
            "sgd" => (w, g, t) => Each(w, i =>
            {
                first[i] = (0.8 * first[i]) + g[i] + (Decay * w[i]);
                w[i] -= Rate * first[i];
            }),
            "lion" => (w, g, t) => Each(w, i =>
            {
                w[i] *= 1 - (Rate * Decay);
                w[i] -= Rate * Math.Sign((0.9 * first[i]) + (0.1 * g[i]));
                first[i] = (0.95 * first[i]) + (0.05 * g[i]);
            }),
            _ => (w, g, t) => Adafactor(w, g, t, rows, columns),
        };
    }

    private static void Adafactor(double[] w, float[] g, int t, double[] rows, double[] columns)
    {
        var beta = 1 - Math.Pow(t, -0.8);
        double Square(int r, int c) => ((double)g[(r * Columns) + c] * g[(r * Columns) + c]) + 1e-30;
        Each(rows, r => rows[r] = (beta * rows[r]) + ((1 - beta) * Enumerable.Range(0, Columns).Average(c => Square(r, c))));
        Each(columns, c => columns[c] = (beta * columns[c]) + ((1 - beta) * Enumerable.Range(0, Rows).Average(r => Square(r, c))));
        var mean = rows.Average();
        var update = w.Select((_, i) => g[i] / Math.Sqrt(rows[i / Columns] / mean * columns[i % Columns])).ToArray();
        var rms = Math.Sqrt(update.Average(static u => u * u));
        Each(w, i => w[i] = (w[i] * (1 - (Rate * Decay))) - (Rate * update[i] / Math.Max(1, rms)));
    }

    // bitsandbytes' step on arrays: on a CPU with the code nearest to the nearest of 65,536 even numbers, on a GPU with the nearest code.
    private static Action<double[], float[], int> EightBit()
    {
        var (signed, unsigned) = (DynamicCode.Levels(signed: true), DynamicCode.Levels(signed: false));
        var (first, second) = (new double[Rows * Columns], new double[Rows * Columns]);
        return (w, g, t) =>
        {
            Each(w, i =>
            {
                first[i] = (0.9 * first[i]) + (0.1 * g[i]);
                second[i] = (0.95 * second[i]) + (0.05 * g[i] * g[i]);
                w[i] *= 1 - (Rate * Decay);
                w[i] -= Rate / (1 - Math.Pow(0.9, t)) * first[i] / (Math.Sqrt(second[i] / (1 - Math.Pow(0.95, t))) + 1e-8);
            });
            for (var start = 0; start < w.Length; start += 256)
            {
                Quantize(first.AsSpan(start, Math.Min(256, w.Length - start)), signed, keepsSign: true);
                Quantize(second.AsSpan(start, Math.Min(256, w.Length - start)), unsigned, keepsSign: false);
            }
        };
    }

    private static void Quantize(Span<double> block, float[] levels, bool keepsSign)
    {
        var largest = 0.0;
        foreach (var value in block)
        {
            largest = Math.Max(largest, Math.Abs(value));
        }

        foreach (ref var value in block)
        {
            var onCpu = TestDevice.Current.type == DeviceType.CPU;
            var scaled = onCpu ? (Math.Floor(((value / largest) + 1) / 2 * 65535 + 0.5) / 65535 * 2) - 1 : value / largest;
            var nearest = Enumerable.Range(0, levels.Length).MinBy(i => Math.Abs(levels[i] - scaled));
            nearest -= !onCpu && keepsSign && value < 0 && levels[nearest] >= 0 ? 1 : 0;
            value = levels[nearest] * largest;
        }
    }

    private static void Each(double[] values, Action<int> change)
    {
        for (var i = 0; i < values.Length; i++)
        {
            change(i);
        }
    }

    private sealed class Run : IDisposable
    {
        private readonly Parameter _parameter;
        private readonly DisposeScope _scope = NewDisposeScope();

        internal Run(string name, float[] start, ScalarType dtype, string rounding = "master_weights", double decay = Decay, double factor = 1)
        {
            var shape = start.Length == Rows * Columns ? new long[] { Rows, Columns } : [start.Length];
            _parameter = new Parameter(tensor(start, shape).to(dtype).to(TestDevice.Current));
            var settings = new TrainingSection { Optimizer = name, Betas = [0.9, 0.95], Momentum = 0.8 * (decay == 0 ? 0 : 1), WeightDecay = decay, LowPrecision = rounding };
            Optimizer = OptimizerKinds.Create([new TrainedParameter("w", _parameter, Decays: true, factor) { Pair = Pair(name) }], settings);
        }

        internal IOptimizer Optimizer { get; }

        // For LoRA's optimizers the parameter is B.
        private static LowRankPair? Pair(string name) =>
            name is "lora_fa" or "riemannian_adamw" ? new LowRankPair(new Parameter(randn([Columns, 2 * Columns], float32, generator: new Generator(5)).to(TestDevice.Current)), IsUp: true, Scale: 2) : null;

        internal void Step(float[] gradient, double rate)
        {
            _parameter.grad = tensor(gradient, _parameter.shape).to(_parameter.dtype).to(TestDevice.Current);
            Optimizer.Step(rate);
        }

        internal double[] Weights()
        {
            using var scope = NewDisposeScope();
            return [.. MemoryMarshal.Cast<byte, float>(_parameter.detach().to(float32, CPU, copy: true).bytes).ToArray().Select(static v => (double)v)];
        }

        public void Dispose()
        {
            Optimizer.Dispose();
            _scope.Dispose();
        }
    }
}
