using System.Runtime.InteropServices;
using NUnit.Framework;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.LlamaCpp;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Export.Gguf;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Export;

/// <summary>Every family that llama.cpp knows: its files, with and without LoRA, are read by llama.cpp and by this library alike.</summary>
public sealed class LlamaCppFamilyTests
{
    private const int Greedy = 12;
    private static readonly int[] s_prompt = [.. Enumerable.Range(0, 24).Select(static i => (7 + (i * 37)) % 256)];
    private static readonly string[] s_tabulated = ["gemma", "gemma2", "gemma3_text", "phi", "starcoder2"];
    private readonly Dictionary<string, (float[][] Logits, IReadOnlyList<int> Greedy)> _theirs = [];
    private readonly Dictionary<string, (double[][] Logits, int[] Greedy)> _ours = [];
    private TemporaryFolder _work = null!;

    [OneTimeSetUp]
    public void Ask()
    {
        RequiredLlamaCpp.Check();
        _work = new TemporaryFolder();
        foreach (var name in GgufCases.Names)
        {
            var folder = GgufCases.Write(_work, name);
            var file = _work[$"{name}.gguf"];
            _ = GgufExport.Write(ModelFolder.Open(folder), null, file, GgufPreset.Of("f32"));
            using var loaded = ModelLoader.Load(folder, float32, CPU);
            Add(name, loaded, file, null);
            using var adapter = Adapter(loaded);
            GgufLoraExport.Write(loaded.Folder, adapter, _work[$"{name}.lora.gguf"]);
            Add($"{name} with LoRA", loaded, file, _work[$"{name}.lora.gguf"]);
        }

        void Add(string name, LoadedModel loaded, string file, string? lora)
        {
            using (var theirs = new LlamaModel(file, lora))
            {
                _theirs[name] = (theirs.Logits(s_prompt), theirs.Greedy(s_prompt, Greedy));
            }

            var options = new GenerationOptions { MaxNewTokens = Greedy };
            _ours[name] = (Logits(loaded.Model), [.. new TextGenerator(loaded.Model, options).Continue([s_prompt])[0].OutputIds]);
        }
    }

    [OneTimeTearDown]
    public void Clean() => _work?.Dispose();

    private static IEnumerable<string> Cases => GgufCases.Names.SelectMany(static name => new[] { name, $"{name} with LoRA" });

    [TestCaseSource(nameof(Cases))]
    public void A_model_has_our_logits_and_says_what_ours_says_in_llama_cpp(string name)
    {
        var (expected, greedy) = _ours[name];
        var (logits, answered) = _theirs[name];
        var actual = logits.Select(static r => Array.ConvertAll(r, static v => (double)v)).ToArray();
        var largest = expected.Max(static r => r.Max(Math.Abs));
        var difference = expected.Zip(actual).Max(static rows => rows.First.Zip(rows.Second).Max(static v => Math.Abs(v.First - v.Second)));
        TestContext.Out.WriteLine($"{name}: {difference:0.0e0} of {largest:F1}");

        // llama.cpp tabulates GELU in half precision.
        Assert.That(actual, Has.Length.EqualTo(s_prompt.Length));
        Assert.That(difference, Is.LessThan((s_tabulated.Contains(name.Split(' ')[0]) ? 2e-3 : 2e-5) * largest));
        Assert.That(Probabilities(expected).Zip(Probabilities(actual)).Max(static rows => rows.First.Zip(rows.Second).Max(static v => Math.Abs(v.First - v.Second))), Is.LessThan(1e-3));
        Assert.That(answered, Is.EqualTo(greedy.Take(answered.Count)));
    }

    [TestCaseSource(typeof(GgufCases), nameof(GgufCases.Names))]
    public void A_model_is_read_back_with_the_same_logits(string name)
    {
        var folder = _work.Folder($"{name} unpacked");
        GgufFolder.Unpack(_work[$"{name}.gguf"], folder);
        using var loaded = ModelLoader.Load(folder, float32, CPU);
        var difference = _ours[name].Logits.Zip(Logits(loaded.Model)).Max(static rows => rows.First.Zip(rows.Second).Max(static v => Math.Abs(v.First - v.Second)));
        Assert.That(difference, Is.LessThan(1e-5));
    }

    private static PeftAdapter Adapter(LoadedModel loaded)
    {
        var adapter = PeftAdapter.Create(loaded.Model, new LoraConfig { Rank = 3, Alpha = 6, Targets = Targets(loaded.Model) }, seed: 5);
        using var nothing = no_grad();
        using var generator = new Generator(3);
        foreach (var layer in adapter.Layers)
        {
            _ = layer.B.normal_(0, 0.2, generator);
        }

        return adapter;
    }

    // All linear layers, and with Llama, whose head is a weight of its own, that too.
    private static TargetModules Targets(CausalLanguageModel model) => model.Config.ModelType switch
    {
        "llama" => TargetModules.Of([.. model.LinearLayers.Select(static l => l.Name)]),

        // With the others, llama.cpp ends with an error.
        "glm4" => TargetModules.Of(["q_proj", "k_proj", "v_proj", "gate_up_proj"]),
        _ => TargetModules.AllLinear,
    };

    private static IEnumerable<double[]> Probabilities(double[][] logits) => logits.Select(static row =>
    {
        var largest = row.Max();
        var exponentials = row.Select(v => Math.Exp(v - largest)).ToArray();
        var sum = exponentials.Sum();
        return exponentials.Select(e => e / sum).ToArray();
    });

    private static double[][] Logits(CausalLanguageModel model)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var ids = tensor(Array.ConvertAll(s_prompt, static i => (long)i), [1, s_prompt.Length]);
        var logits = model.Logits(model.call(ModelInput.Rows(ids))).squeeze(0).to(float64).contiguous();
        return [.. MemoryMarshal.Cast<byte, double>(logits.bytes).ToArray().Chunk(256)];
    }
}
