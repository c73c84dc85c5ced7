using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Objectives.Distillation;
using OpenWeights.Tune.Objectives.Stored;
using OpenWeights.Tune.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Objectives.Distillation;

/// <summary>Losses and gradients of distillation on a fixed batch, against TRL 1.16's trainers.</summary>
[Category(TestDevice.Parity)]
public sealed class DistillGoldenTests
{
    private const string Set = "objectives";

    private static readonly string[] s_kinds = ["gkd", "distill"];

    private static IEnumerable<string> Cases =>
        SharedFiles.FindNames("golden.json", "goldens", Set).Select(static n => n.Split('/')[0]).Where(static n => s_kinds.Contains(n.Split('_')[0])).DefaultIfEmpty("gkd_beta05_t1");

    [TestCaseSource(nameof(Cases))]
    public void Losses_gradients_and_metrics_are_TRLs(string name)
    {
        using var batch = new Batch(name);
        var (loss, metrics) = batch.Step([batch.Rows]);
        batch.Compare(loss);
        foreach (var (metric, value) in batch.Golden.Json["metrics"]!.AsObject())
        {
            Assert.That(metrics, Contains.Key(metric));
            Assert.That(metrics[metric], Is.EqualTo(value!.GetValue<double>()).Within(2e-5 * Math.Max(1, Math.Abs(value.GetValue<double>())) * TestDevice.Slack), metric);
        }
    }

    [TestCase("gkd_beta05_t1")]
    [TestCase("distill_beta1")]
    [TestCase("distill_topk_beta0")]
    public void Several_micro_batches_and_packed_rows_give_the_loss_and_gradient_of_one(string name)
    {
        using var batch = new Batch(name);
        batch.Compare(batch.Step([.. batch.Rows.Chunk(2).Select(static c => c.ToArray())]).Loss);
        batch.Drop();
        batch.Compare(batch.Step([[Packer.Join(batch.Rows)]]).Loss);
    }

    [TestCase("distill_topk_beta0")]
    [TestCase("distill_topk_beta05")]
    [TestCase("distill_topk_beta1")]
    public void A_teacher_whose_predictions_were_stored_teaches_the_same_packed_or_not(string name)
    {
        using var folder = new TemporaryFolder();
        using var batch = new Batch(name);
        var settings = new LogProbSettings(batch.Settings.Top, batch.Settings.Temperature);
        var writer = new LogProbStoreWriter([batch.Rows], settings);
        _ = batch.Teacher.Run(m =>
        {
            writer.Write(folder.At("stored", "teacher.logprobs"), m, tokensOfBatch: 20);
            return 0;
        });
        Assert.That(new FileInfo(folder.At("stored", "teacher.logprobs")).Length, Is.EqualTo(writer.Bytes));
        using var stored = new StoredReference(LogProbStore.Open(folder.At("stored", "teacher.logprobs")), null, static () => throw new InvalidOperationException("the teacher is not needed"));
        batch.Compare(batch.Step([[Packer.Join(batch.Rows)]], stored).Loss);
        batch.Drop();
        batch.Compare(batch.Step([batch.Rows], stored).Loss);
    }

    [Test]
    public void A_file_that_was_cut_off_is_refused()
    {
        using var folder = new TemporaryFolder();
        using var batch = new Batch("distill_topk_beta0");
        var path = folder.At("teacher.logprobs");
        _ = batch.Teacher.Run(m =>
        {
            new LogProbStoreWriter([batch.Rows], new LogProbSettings(8)).Write(path, m, tokensOfBatch: 20);
            return 0;
        });
        using (var file = File.OpenWrite(path))
        {
            file.SetLength(file.Length - 4);
        }

        Assert.That(() => LogProbStore.Open(path), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("not whole"));
    }

    [Test]
    public void All_tokens_of_the_teacher_as_the_most_likely_ones_are_the_whole_vocabulary()
    {
        // Independent of the top-k goldens: with every token on the list there is no tail, and nothing is approximated.
        using var batch = new Batch("gkd_beta05_t2");
        batch.Compare(batch.Step([batch.Rows], settings: batch.Settings with { Top = 256, IsNarrow = false, AddsTail = false }).Loss);
    }

    [Test]
    public void The_divergence_of_every_beta_is_that_of_its_definition()
    {
        using var scope = NewDisposeScope();
        manual_seed(7);
        var (student, teacher) = (randn([5, 12], float64).to(float32), randn([5, 12], float64).to(float32));
        foreach (var beta in new[] { 0, 0.3, 1 })
        {
            var whole = Divergence.Of(student, teacher, beta, 1.5);
            var (s, t) = (student.div(1.5).log_softmax(1).to(float64), teacher.div(1.5).log_softmax(1).to(float64));
            var mixture = beta switch { 0 => s, 1 => t, _ => t.exp().mul(beta).add(s.exp().mul(1 - beta)).log() };
            var expected = t.exp().mul(t.sub(mixture)).sum([1L]).mul(beta == 0 ? 1 : beta).add(s.exp().mul(s.sub(mixture)).sum([1L]).mul(beta == 1 ? 1 : 1 - beta));
            Assert.That(Golden.LargestDifference(whole, expected), Is.LessThan(1e-6));
        }
    }

    /// <summary>A golden's student, teacher and rows.</summary>
    private sealed class Batch : IDisposable
    {
        private readonly LoadedModel _student;
        private readonly PeftAdapter _adapter;

        internal Batch(string name)
        {
            Golden = new Golden(name, Set);
            _student = ModelLoader.Load(Path.Combine(Golden.Folder, "..", "model"), float32, TestDevice.Current);
            _adapter = PeftFolder.Load(_student.Model, Path.Combine(Golden.Folder, "..", "policy_adapter"), anyBase: true);
            Teacher = new ModelReference(ModelLoader.Load(Path.Combine(Golden.Folder, "..", "teacher"), float32, TestDevice.Current));
            var hyper = Golden.Json["hyper"]!;
            Settings = new DistillationSettings
            {
                Beta = hyper["beta"]!.GetValue<double>(),
                Temperature = hyper["temperature"]!.GetValue<double>(),
                Top = hyper["teacher_top_k"]?.GetValue<int>() ?? 0,
                AddsTail = hyper["add_tail_bucket"]?.GetValue<bool>() ?? true,
            };
            static int[] Ids(JsonNode? node) => [.. node!.AsArray().Select(static v => v!.GetValue<int>())];
            Rows =
            [
                .. Golden.Json["examples"]!.AsArray().Select(static e => (Prompt: Ids(e!["prompt"]), Completion: Ids(e["completion"]))).Select(static e =>
                    new TokenRow([.. e.Prompt, .. e.Completion], [.. Enumerable.Repeat(TokenRow.Ignored, e.Prompt.Length), .. e.Completion], "row")),
            ];
        }

        internal Golden Golden { get; }

        internal ModelReference Teacher { get; }

        internal DistillationSettings Settings { get; }

        internal IReadOnlyList<TokenRow> Rows { get; }

        public void Dispose()
        {
            Teacher.Dispose();
            _adapter.Dispose();
            _student.Dispose();
            Golden.Dispose();
        }

        internal void Drop()
        {
            foreach (var (_, parameter) in _adapter.Parameters)
            {
                _ = parameter.grad?.zero_();
            }
        }

        internal (double Loss, IReadOnlyDictionary<string, double> Metrics) Step(IReadOnlyList<IReadOnlyList<TokenRow>> batches, IReferencePolicy? teacher = null, DistillationSettings? settings = null)
        {
            IObjective objective = new DistillObjective(settings ?? Settings, teacher ?? Teacher, endTokens: [2]);
            long units;
            using (no_grad())
            {
                units = objective.Begin(_student.Model, batches);
            }

            // The reference may count the tokens of a larger batch, of which this is a part.
            units = Golden.Json["num_items_in_batch"]?.GetValue<long>() ?? units;
            var loss = 0.0;
            foreach (var rows in batches)
            {
                using var scope = NewDisposeScope();
                var sum = objective.LossSum(_student.Model, rows)!.div(units);
                sum.backward();
                loss += sum.ToDouble();
            }

            return (loss, objective.End());
        }

        internal void Compare(double loss)
        {
            var norm = Math.Sqrt(_adapter.Parameters.Sum(static p => Math.Pow(p.Parameter.grad!.norm().ToDouble(), 2)));
            Assert.That(loss, Is.EqualTo(Golden.Json["loss"]!.GetValue<double>()).Within(2e-6 * TestDevice.Slack));
            Assert.That(norm, Is.EqualTo(Golden.Json["grad_norm_total"]!.GetValue<double>()).Within(2e-3).Percent);
            foreach (var (parameter, tensor) in _adapter.Parameters)
            {
                var expected = Golden.Tensor("grad.base_model.model." + parameter.Replace(".weight", ".default.weight", StringComparison.Ordinal));
                Assert.That(Golden.LargestDifference(tensor.grad!, expected), Is.LessThan(1e-5 * norm * TestDevice.Slack), parameter);
            }
        }
    }
}
