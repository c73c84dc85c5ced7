using System.Runtime.InteropServices;
using NUnit.Framework;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Quantization;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Training;

/// <summary>Twenty steps of every optimizer against torch, transformers, PEFT, bitsandbytes, schedulefree, galore-torch and apollo-torch.</summary>
[Category(TestDevice.Parity)]
public sealed class OptimizerTrajectoryTests
{
    private const string Set = "adapters2026";

    // Losses and norms, relative; final weights, absolute; state, relative to its largest value.
    private static readonly Tolerance s_exact = new(2e-5, 2e-5, 2e-4);

    // torch's Newton-Schulz iterations round to bfloat16 at every operation: about 1e-2 of an update.
    private static readonly Tolerance s_muon = new(4e-3, 4e-3, 2e-2);

    private static readonly Dictionary<string, Tolerance> s_tolerances = new()
    {
        ["opt_muon_original"] = s_muon,
        ["opt_muon_match_rms_adamw"] = s_muon,
        ["opt_muon_no_nesterov"] = s_muon,

        // The moments stay while the projection changes, so the steps depend on the signs of singular vectors.
        ["opt_galore_gap5"] = new(1e-3, 1e-3, double.NaN),

        // PEFT multiplies the gradient by the inverse in bfloat16.
        ["opt_lorafa"] = new(1e-3, 1e-3, 1e-3),

        // A sign turns where a gradient is rounded to the other side of zero.
        ["opt_lion"] = new(1e-4, 1e-3, 1e-3),
        ["opt_lion_bnb"] = new(1e-4, 1e-3, 1e-3),
        ["opt_lion8bit_bnb"] = new(1e-4, 1e-3, 1e-3),
    };

    private static IEnumerable<string> Cases => SharedFiles.FindFiles("golden.json", "goldens", Set).Select(static f => Path.GetFileName(Path.GetDirectoryName(f)!)).Where(static n => n.StartsWith("opt_", StringComparison.Ordinal));

    [TestCaseSource(nameof(Cases))]
    public void Losses_rates_norms_weights_and_states_are_the_references(string name)
    {
#if TORCH_SYSTEM
        if (name is "opt_galore_gap5" or "opt_muon_original")
        {
            Assert.Ignore("this libtorch's LAPACK chooses other signs of singular vectors, or its bfloat16 products round otherwise, than the reference's");
        }

#endif
        using var golden = new Golden(name, Set);
        using var folder = new TemporaryFolder();
        var tolerance = s_tolerances.GetValueOrDefault(name, s_exact);
        var listener = new SilentListener();
        using (var run = TrainingRun.Prepare(OptimizerGolden.Config(golden, folder), listener))
        {
            CheckRates(golden, OptimizerGolden.Rates(golden, run));
            _ = run.Run(overwrite: false, "test", CancellationToken.None)!;
        }

        var worst = CheckSteps(golden, listener, tolerance);
        var checkpoint = folder.At("run", "checkpoints", "step-00000020");
        var weights = CheckWeights(golden.Folder, "final.safetensors", Path.Combine(checkpoint, "weights"), tolerance);
        var states = double.IsNaN(tolerance.State) ? 0 : CheckStates(golden, Path.Combine(checkpoint, "optimizer.safetensors"), tolerance);
        TestContext.Out.WriteLine($"{name}: relative {worst:0.0e0} of losses and norms, {weights:0.0e0} of final weights, {states:0.0e0} of states");
        if (name == "opt_schedulefree_adamw")
        {
            _ = CheckWeights(golden.Folder, "final_eval.safetensors", folder.At("run", "model"), tolerance);
        }
    }

    // The reference names the first parameters of each group.
    private static void CheckRates(Golden golden, IReadOnlyDictionary<string, double> rates)
    {
        foreach (var (name, expected) in OptimizerGolden.ExpectedRates(golden))
        {
            Assert.That(rates[name], Is.EqualTo(expected).Within(1e-9 * expected), name);
        }
    }

    private static double CheckSteps(Golden golden, SilentListener listener, Tolerance tolerance)
    {
        var worst = 0.0;
        foreach (var (expected, actual) in golden.Json["log"]!.AsArray().Zip(listener.Steps))
        {
            var loss = expected!["loss"]!.GetValue<double>();
            var norm = expected["grad_norm"]!.GetValue<double>();
            worst = Math.Max(worst, Math.Max(Math.Abs(actual.Loss - loss) / loss, Math.Abs(actual.GradNorm - norm) / norm));
            Assert.That(actual.Loss, Is.EqualTo(loss).Within(tolerance.Step * loss * TestDevice.Slack), $"loss of step {actual.Step}");
            Assert.That(actual.GradNorm, Is.EqualTo(norm).Within(5 * tolerance.Step * norm * TestDevice.Slack), $"norm of step {actual.Step}");
            Assert.That(actual.LearningRate, Is.EqualTo(expected["lr"]![0]!.GetValue<double>()).Within(1e-12), $"rate of step {actual.Step}");
            Assert.That(actual.TargetTokens, Is.EqualTo(expected["num_target_tokens"]!.GetValue<long>()));
        }

        Assert.That(listener.Steps, Has.Count.EqualTo(20));
        return worst;
    }

    private static double CheckWeights(string golden, string file, string folder, Tolerance tolerance)
    {
        var worst = 0.0;
        using var final = SafetensorsFile.Open(Path.Combine(golden, file));
        using var weights = AdapterFolder.Find(folder) is null ? (IDisposable)ModelFolder.Open(folder).OpenWeights() : AdapterFolder.Open(folder).OpenWeights();
        foreach (var entry in final.Tensors)
        {
            using var scope = NewDisposeScope();
            var difference = Golden.LargestDifference(TensorFiles.Read((ITensorSource)weights, entry.Name.Replace(".default", "", StringComparison.Ordinal)), TensorFiles.Read(final, entry.Name));
            worst = Math.Max(worst, difference);
            Assert.That(difference, Is.LessThan(tolerance.Weight * TestDevice.Slack), entry.Name);
        }

        return worst;
    }

    private static double CheckStates(Golden golden, string file, Tolerance tolerance)
    {
        var worst = 0.0;
        using var ours = SafetensorsFile.Open(file);
        foreach (var entry in golden.Tensors.Tensors.Where(static t => t.Name.StartsWith("state.", StringComparison.Ordinal)))
        {
            using var scope = NewDisposeScope();
            var dot = entry.Name.LastIndexOf('.');
            var parameter = entry.Name[6..dot].Replace("base_model.model.", "", StringComparison.Ordinal).Replace(".default", "", StringComparison.Ordinal);
            var expected = golden.Tensor(entry.Name);
            if (Found(ours, parameter, entry.Name[(dot + 1)..], expected) is not { } found)
            {
                continue;
            }

            if (expected.dtype == ScalarType.Byte)
            {
                // Where float32 falls on two sides of a code's border, one level lies between them.
                var apart = found.view(-1).to(int64).sub(expected.view(-1).to(int64)).abs();
                Assert.That(apart.max().ToInt64(), Is.LessThanOrEqualTo(1), entry.Name);
                var share = apart.to(float64).mean().ToDouble();
                TestContext.Out.WriteLine($"{entry.Name}: {share:P2} of the codes are a level apart");
                Assert.That(share, Is.LessThan(0.005), entry.Name);
                continue;
            }

            var size = expected.to(float64).abs().max().ToDouble();
            var difference = Golden.LargestDifference(found.reshape(expected.shape), expected) / Math.Max(size, 1e-30);
            worst = Math.Max(worst, difference);
            Assert.That(difference, Is.LessThan(tolerance.State * TestDevice.Slack), entry.Name);
        }

        return worst;
    }

    // Our tensor for one of the reference's; null where there is none to compare.
    private static Tensor? Found(SafetensorsFile ours, string parameter, string state, Tensor expected)
    {
        Tensor Read(string name) => TensorFiles.Read(ours, $"{parameter}.{name}");
        bool Has(string name) => ours.TryGetTensor($"{parameter}.{name}", out _);
        switch (state)
        {
            case "step" or "RMS":
                return null;
            case "qmap1" or "qmap2":
                Assert.That(MemoryMarshal.Cast<byte, float>(expected.contiguous().bytes).ToArray(), Is.EqualTo(DynamicCode.Levels(signed: state == "qmap1")));
                return null;
            case "state1" when Has("exp_avg_slow"):
                return stack([Read("exp_avg"), Read("exp_avg_slow")]);
            case "state1" or "absmax1":
                return Read(state == "state1" ? "exp_avg" : "exp_avg.absmax");
            case "state2" or "absmax2":
                return Read(state == "state2" ? "exp_avg_sq" : "exp_avg_sq.absmax");
            case "exp_avg" when Has("projector") && !Has("scaled_grad"):
            case "projector":
                // Singular vectors have free signs; the products of both do not.
                return null;
            default:
                return Read(state);
        }
    }

    private readonly record struct Tolerance(double Step, double Weight, double State);
}
