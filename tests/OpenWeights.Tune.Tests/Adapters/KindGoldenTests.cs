using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Adapters.Kinds;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Adapters;

/// <summary>Adapters of PEFT's other kinds, as PEFT 0.21 wrote them: logits, losses, gradients, merged weights, and the files themselves.</summary>
[Category(TestDevice.Parity)]
public sealed class KindGoldenTests
{
    private const string Set = "adapters2026";

    internal static IEnumerable<string> Modules => SharedFiles.Present(
        [
            "kind_ia3", "kind_ln_tuning", "kind_loha", "kind_lokr", "kind_lokr_both", "kind_vera", "kind_oft", "kind_oft_cayley_exact", "kind_oft_coft_shared", "kind_boft", "kind_miss", "kind_miss_bat", "kind_miss_mini",
            "kind_adalora", "kind_delora", "kind_randlora", "kind_c3a", "kind_shira", "kind_hra", "kind_hira", "kind_gralora", "kind_fourierft", "kind_road", "kind_vblora", "kind_waveft",
        ],
        "goldens", Set);

    internal static IEnumerable<string> Prompts => SharedFiles.Present(["kind_prompt_tuning", "kind_p_tuning", "kind_prefix_tuning", "kind_prefix_projection"], "goldens", Set);

    [TestCaseSource(nameof(Modules))]
    public void Logits_losses_and_gradients_are_PEFTs(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var adapter = PeftFolder.Load(loaded.Model, golden.Folder);
        foreach (var (run, json) in golden.Runs)
        {
            using var scope = NewDisposeScope();
            var logits = loaded.Model.Logits(loaded.Model.call(Golden.Input(json)));
            if (golden.Tensors.TryGetTensor($"{run}.logits", out _))
            {
                Assert.That(Golden.LargestDifference(logits, golden.Tensor($"{run}.logits"), Golden.Ids(json["attention_mask"]!)), Is.LessThan(5e-5), $"{run}: logits");
            }

            var loss = Golden.Loss(logits, Golden.Ids(json["labels"]!));

            // The loss of AdaLoRA's golden has the penalty of the ranks that its file does not have.
            if (adapter.Config is not AdaloraConfig)
            {
                Assert.That(loss.ToDouble(), Is.EqualTo(json["loss"]!.GetValue<double>()).Within(1e-3).Percent, $"{run}: loss");
            }

            loss.backward();
            Gradients(golden, adapter, run, json);
        }

        Assert.That(loaded.Model.parameters().All(static p => p.grad is null), "the base has no gradients");
    }

    [TestCaseSource(nameof(Prompts))]
    public void Virtual_tokens_give_PEFTs_logits_and_losses(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var adapter = PeftFolder.Load(loaded.Model, golden.Folder);
        foreach (var (run, json) in golden.Runs)
        {
            using var scope = NewDisposeScope();
            var logits = loaded.Model.Logits(loaded.Model.call(Golden.Input(json)));
            var all = golden.Tensor($"{run}.logits");
            Assert.That(Golden.LargestDifference(logits, all.narrow(1, all.size(1) - logits.size(1), logits.size(1)), Golden.Ids(json["attention_mask"]!)), Is.LessThan(5e-5), $"{run}: logits");
            var loss = Golden.Loss(logits, Golden.Ids(json["labels"]!));
            Assert.That(loss.ToDouble(), Is.EqualTo(json["loss"]!.GetValue<double>()).Within(1e-3).Percent, $"{run}: loss");
            loss.backward();

            // The networks that computed the others are not in PEFT's file.
            if (json["grad_norms"] is JsonObject { Count: 1 } norms && golden.Tensors.TryGetTensor($"{run}.grad.prompt_encoder.default.embedding.weight", out _))
            {
                var gradient = adapter.Parameters.Single().Parameter.grad!;
                Assert.That(gradient.norm().ToDouble(), Is.EqualTo(norms.First().Value!.GetValue<double>()).Within(1e-3).Percent);
                Assert.That(Golden.LargestDifference(gradient, golden.Tensor($"{run}.grad.prompt_encoder.default.embedding.weight")), Is.LessThan(1e-5));
            }

            foreach (var (_, parameter) in adapter.Parameters)
            {
                parameter.grad!.zero_();
            }
        }
    }

    [TestCaseSource(nameof(Prompts))]
    [TestCaseSource(nameof(Modules))]
    [Category(TestDevice.CpuAlone)]
    public void Text_is_generated_as_without_a_cache(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var adapter = PeftFolder.Load(loaded.Model, golden.Folder);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var prompt = Golden.Ids(golden.Json["generate"]!["prompt"]!);
        int[] start = [.. Enumerable.Range(0, (int)prompt.size(1)).Select(i => (int)prompt.select(0, 0).select(0, i).ToInt64())];
        var text = new List<int>(start);
        for (var i = 0; i < 8; i++)
        {
            var ids = tensor([.. text.Select(static t => (long)t)], [1, text.Count]).to(TestDevice.Current);
            text.Add((int)loaded.Model.Logits(loaded.Model.call(ModelInput.Rows(ids)).narrow(1, text.Count - 1, 1)).argmax(-1).ToInt64());
        }

        var options = new GenerationOptions { MaxNewTokens = 8, Temperature = 0 };
        Assert.That(new TextGenerator(loaded.Model, options).Continue([start])[0].OutputIds, Is.EqualTo(text.Skip(start.Length)));

        // Of a batch with padding on the left each text is the same as alone.
        Assert.That(new TextGenerator(loaded.Model, options).Continue([start[2..], start])[1].OutputIds, Is.EqualTo(text.Skip(start.Length)));
    }

    [TestCaseSource(nameof(Prompts))]
    public void Virtual_tokens_cannot_be_merged(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var adapter = PeftFolder.Load(loaded.Model, golden.Folder);
        using var work = new TemporaryFolder();
        Assert.That(() => MergedExport.Write(loaded, adapter, work.At("merged"), null, long.MaxValue), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("cannot be merged"));
    }

    [TestCaseSource(nameof(Prompts))]
    [TestCaseSource(nameof(Modules))]
    [Category(TestDevice.CpuAlone)]
    public void An_adapter_that_is_read_and_written_again_has_the_same_bytes(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var work = new TemporaryFolder();
        using (var adapter = PeftFolder.Load(loaded.Model, golden.Folder))
        {
            PeftFolder.Save(adapter, work.At("adapter"), "elsewhere");
        }

        Assert.That(File.ReadAllBytes(work.At("adapter", "adapter_model.safetensors")), Is.EqualTo(File.ReadAllBytes(Path.Combine(golden.Folder, "adapter_model.safetensors"))));
        var (written, given) = (Settings(work.At("adapter")), Settings(golden.Folder));
        _ = written.Remove("base_model_name_or_path");
        _ = given.Remove("base_model_name_or_path");
        Assert.That(JsonNode.DeepEquals(written, given), $"{written}\n{given}");
    }

    [TestCaseSource(nameof(Modules))]
    [Category(TestDevice.CpuAlone)]
    public void The_merged_weights_are_PEFTs(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var adapter = PeftFolder.Load(loaded.Model, golden.Folder);
        using var merged = SafetensorsFile.Open(Path.Combine(golden.Folder, "merged.safetensors"));
        using var weights = loaded.Folder.OpenWeights();
        using var scope = NewDisposeScope();
        Assert.That(adapter.ChangedTensors, Is.EquivalentTo(golden.Json["merged_changed"]!.AsArray().Select(static n => n!.ToString())));
        foreach (var tensor in merged.Tensors.Select(static t => t.Name))
        {
            var difference = Golden.LargestDifference(adapter.Merged(tensor, TensorFiles.Read(weights, tensor, float32)), TensorFiles.Read(merged, tensor));
            Assert.That(difference, Is.LessThan(2e-6), tensor);
        }
    }

    [TestCaseSource(nameof(Modules))]
    public void The_merged_model_has_the_adapters_logits(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var adapter = PeftFolder.Load(loaded.Model, golden.Folder);
        using var mix = new CombinedAdapter([(adapter, 1)]);
        using var work = new TemporaryFolder();
        _ = MergedExport.Write(loaded, mix, work.At("merged"), null, long.MaxValue);
        using var merged = ModelLoader.Load(work.At("merged"), float32, TestDevice.Current);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var ids = Golden.Ids(golden.Json["runs"]!["full"]!["input_ids"]!);
        var logits = merged.Model.Logits(merged.Model.call(ModelInput.Rows(ids)));
        var expected = golden.Tensor(golden.Tensors.TryGetTensor("merged.logits", out _) ? "merged.logits" : "full.logits");
        Assert.That(Golden.LargestDifference(logits, expected), Is.LessThan(5e-5));
    }

    [TestCaseSource(nameof(Modules))]
    [Category(TestDevice.CpuAlone)]
    public void Mixed_half_and_half_with_nothing_it_is_the_mean_of_the_base_and_the_merged_weights(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var adapter = PeftFolder.Load(loaded.Model, golden.Folder);
        using var half = new CombinedAdapter([(adapter, 0.5)]);
        using var work = new TemporaryFolder();
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var ids = ModelInput.Rows(Golden.Ids(golden.Json["runs"]!["full"]!["input_ids"]!));
        half.Enable(loaded.Model);
        var mixed = loaded.Model.Logits(loaded.Model.call(ids));
        CombinedAdapter.Disable(loaded.Model);
        _ = MergedExport.Write(loaded, half, work.At("merged"), null, long.MaxValue);
        using var merged = ModelLoader.Load(work.At("merged"), float32, TestDevice.Current);
        Assert.That(Golden.LargestDifference(merged.Model.Logits(merged.Model.call(ids)), mixed), Is.LessThan(5e-5));
    }

    [TestCase("kind_vera", "vera_")]
    [TestCase("kind_randlora", "randlora_")]
    public void Projections_that_are_not_saved_are_drawn_as_PEFT_draws_them_or_refused(string name, string prefix)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var work = new TemporaryFolder();
        using var file = SafetensorsFile.Open(Path.Combine(golden.Folder, "adapter_model.safetensors"));
        var settings = Settings(golden.Folder);
        settings["save_projection"] = false;
        AdapterFolder.Write(work.At("adapter"), settings, [.. file.Tensors.Where(t => !t.Name.EndsWith($"{prefix}A", StringComparison.Ordinal) && !t.Name.EndsWith($"{prefix}B", StringComparison.Ordinal)).Select(t => TensorToWrite.FromSource(file, t.Name))]);
        if (name == "kind_randlora")
        {
            Assert.That(() => PeftFolder.Load(loaded.Model, work.At("adapter")), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("save_projection"));
            return;
        }

        using var adapter = PeftFolder.Load(loaded.Model, work.At("adapter"));
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var logits = loaded.Model.Logits(loaded.Model.call(ModelInput.Rows(Golden.Ids(golden.Json["runs"]!["full"]!["input_ids"]!))));
        Assert.That(Golden.LargestDifference(logits, golden.Tensor("full.logits")), Is.LessThan(5e-5));
    }

    [Test]
    [Category(TestDevice.CpuAlone)]
    public void The_gradient_of_C3A_is_the_slope_of_its_loss()
    {
        using var golden = new Golden("kind_c3a", Set);
        using var loaded = Base(golden);
        using var adapter = PeftFolder.Load(loaded.Model, golden.Folder);
        var json = golden.Json["runs"]!["full"]!;
        Tensor Loss() => Golden.Loss(loaded.Model.Logits(loaded.Model.call(Golden.Input(json))), Golden.Ids(json["labels"]!));
        using var scope = NewDisposeScope();
        Loss().backward();
        var kernel = adapter.Parameters.Single(static p => p.Name == "model.layers.0.self_attn.q_proj.c3a_kernel").Parameter;
        using var nothing = no_grad();
        var (slope, start) = (kernel.grad!.clone(), kernel.clone());
        var norm = slope.norm().ToDouble();
        double At(double distance)
        {
            _ = kernel.copy_(start.add(slope.mul(distance / norm)));
            adapter.Training = false; // what was computed from the kernels before is discarded
            return Loss().ToDouble();
        }

        Assert.That(At(0.5) - At(-0.5), Is.EqualTo(norm).Within(1).Percent);
    }

    [Test]
    public void Entries_of_a_weight_are_chosen_by_a_seed_as_PEFT_chooses_them()
    {
        using var golden = new Golden("kind_shira", Set);
        using var loaded = Base(golden);
        using var adapter = PeftAdapter.Create(loaded.Model, new ShiraConfig { Rank = 2, RandomSeed = 7, Targets = TargetModules.Of(["q_proj", "v_proj"]) }, seed: 1);
        using var file = SafetensorsFile.Open(Path.Combine(golden.Folder, "adapter_model.safetensors"));
        foreach (var (name, tensor) in PeftFolder.Tensors(adapter).Where(static t => t.Name.EndsWith("shira_indices", StringComparison.Ordinal)))
        {
            Assert.That(tensor.cpu().eq(TensorFiles.Read(file, PeftFolder.FileName(name))).all().ToBoolean(), name);
        }
    }

    [Test]
    [Category(TestDevice.CpuAlone)]
    public void AdaLoRA_takes_away_the_same_ranks_as_PEFT_with_the_same_losses()
    {
        using var golden = new Golden("kind_adalora", Set);
        using var loaded = Base(golden);
        var config = (AdaloraConfig)new AdaloraKind().Read(Settings(golden.Folder), "adapter_config.json", out _) with { Kept = new Dictionary<string, IReadOnlyList<bool>>() };
        using var adapter = PeftAdapter.Create(loaded.Model, config, seed: 1);
        using (var initial = SafetensorsFile.Open(Path.Combine(golden.Folder, "initial.safetensors")))
        using (no_grad())
        {
            foreach (var (name, parameter) in adapter.Parameters)
            {
                _ = parameter.copy_(TensorFiles.Read(initial, initial.Tensors.Single(t => t.Name.Replace(".default", "", StringComparison.Ordinal) == PeftFolder.FileName(name)).Name));
            }
        }

        var (json, losses) = (golden.Json["runs"]!["full"]!, golden.Json["losses_with_orthogonal_term"]!.AsArray());
        for (var step = 0; step < losses.Count; step++)
        {
            using var scope = NewDisposeScope();
            var logits = loaded.Model.Logits(loaded.Model.call(Golden.Input(json)));
            var loss = Golden.Loss(logits, Golden.Ids(json["labels"]!)).add(adapter.Schedule!.Penalty()!);
            Assert.That(loss.ToDouble(), Is.EqualTo(losses[step]!.GetValue<double>()).Within(1e-3).Percent, $"step {step}");
            loss.backward();
            using (no_grad())
            {
                foreach (var (_, parameter) in adapter.Parameters)
                {
                    _ = parameter.sub_(parameter.grad!.mul(0.01));
                }
            }

            adapter.Schedule!.Stepped(step, losses.Count);
            foreach (var (_, parameter) in adapter.Parameters)
            {
                parameter.grad!.zero_();
            }
        }

        using var work = new TemporaryFolder();
        PeftFolder.Save(adapter, work.At("adapter"), "elsewhere");
        Assert.That(JsonNode.DeepEquals(Settings(work.At("adapter"))["rank_pattern"], Settings(golden.Folder)["rank_pattern"]));
        using var ours = SafetensorsFile.Open(work.At("adapter", "adapter_model.safetensors"));
        using var theirs = SafetensorsFile.Open(Path.Combine(golden.Folder, "adapter_model.safetensors"));
        foreach (var tensor in theirs.Tensors)
        {
            Assert.That(Golden.LargestDifference(TensorFiles.Read(ours, tensor.Name), TensorFiles.Read(theirs, tensor.Name)), Is.LessThan(1e-5), tensor.Name);
        }
    }

    internal static LoadedModel Base(Golden golden) => ModelLoader.Load(Path.Combine(golden.Folder, golden.Json["base"]!.ToString()), float32, TestDevice.Current);

    private static JsonObject Settings(string folder) => JsonNode.Parse(File.ReadAllText(Path.Combine(folder, "adapter_config.json")))!.AsObject();

    private static void Gradients(Golden golden, PeftAdapter adapter, string run, JsonNode json)
    {
        // AdaLoRA's file has the kept ranks alone, and the golden's gradients of A and B have the penalty. C3A passes a wrong gradient to its
        // input in PEFT (its kernel is read as w[i + j] instead of w[j - i]), so that only the last adapted module's is comparable.
        var kept = (adapter.Config as AdaloraConfig)?.Kept;
        var total = kept is not null || adapter.Config is C3aConfig ? json["grad_norm_total"]!.GetValue<double>() : Math.Sqrt(adapter.Parameters.Sum(static p => Math.Pow(p.Parameter.grad!.norm().ToDouble(), 2)));
        Assert.That(total, Is.EqualTo(json["grad_norm_total"]!.GetValue<double>()).Within(2e-3).Percent, $"{run}: norm of all gradients");
        foreach (var (key, expected) in json["grad_norms"]?.AsObject() ?? [])
        {
            var (name, parameter) = adapter.Parameters.Single(p => Live(key) == p.Name);
            if ((kept is not null && !name.EndsWith("lora_E", StringComparison.Ordinal)) || (adapter.Config is C3aConfig && name != "model.layers.1.mlp.down_proj.c3a_kernel"))
            {
                continue;
            }

            var ranks = kept?[$"{name[..name.LastIndexOf('.')]}.lora_E"].Select(static (k, i) => (k, i)).Where(static p => p.k).Select(static p => (long)p.i).ToArray();
            if (ranks is not null)
            {
                if (golden.Tensors.TryGetTensor($"{run}.grad.{key}", out _))
                {
                    var ofKept = golden.Tensor($"{run}.grad.{key}").index_select(name.EndsWith("lora_B", StringComparison.Ordinal) ? 1 : 0, tensor(ranks, [ranks.Length]));
                    Assert.That(Golden.LargestDifference(parameter.grad!, ofKept), Is.LessThan(2e-5 * Math.Max(1, expected!.GetValue<double>())), name);
                }

                continue;
            }

            Assert.That(parameter.grad!.norm().ToDouble(), Is.EqualTo(expected!.GetValue<double>()).Within(2e-5 * Math.Max(1, expected.GetValue<double>())), key);
            if (golden.Tensors.TryGetTensor($"{run}.grad.{key}", out _))
            {
                Assert.That(Golden.LargestDifference(parameter.grad!, golden.Tensor($"{run}.grad.{key}")), Is.LessThan(2e-5 * Math.Max(1, expected.GetValue<double>())), name);
            }
        }

        foreach (var (_, parameter) in adapter.Parameters)
        {
            parameter.grad!.zero_();
        }
    }

    // The reference keeps PEFT's live names, which have the adapter's name in them.
    private static string Live(string key)
    {
        var name = key.Replace("base_model.model.", "", StringComparison.Ordinal).Replace(".default", "", StringComparison.Ordinal);
        return name.EndsWith("vblora_vector_bank", StringComparison.Ordinal) ? "base_model.vblora_vector_bank" : name;
    }
}
