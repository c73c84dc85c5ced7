using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.LlamaCpp;
using OpenWeights.Testing;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Export.Gguf;
using OpenWeights.Tune.Init;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Export;

/// <summary>llama.cpp itself loads the files that are written here, and computes what the reference and this library compute.</summary>
public sealed class LlamaCppTests
{
    // Its texts serve for tokenizers without answers of their own.
    private const string PiecesGolden = "own__pieces.json";

    private static readonly IEnumerable<string> s_models = Golden.Present(
        "llama", "llama_tied", "llama_bias", "llama_head_dim", "llama_rope_linear", "llama_rope_llama3", "llama_rope_yarn", "mistral_head_dim", "qwen2", "qwen2_tied", "qwen3", "gemma");

    private static readonly IEnumerable<string> s_adapters = Golden.Present("lora_qv", "lora_all_linear", "lora_rslora", "lora_patterns");
    private static readonly string[] s_trained = SharedFiles.Find("fixtures", "weights", "stories260K-hf") is null ? ["quickstart"] : ["stories", "quickstart"];

    private static readonly IEnumerable<string> s_tokenizers = SharedFiles.Present(
        ["own/bytes-llama-3", "own/bytes-qwen-2", "own/pieces", "llama-3", "qwen3", "tinyllama-1.1b-chat", "mistral-7b-v0.1", "minimind", "qwen2"], "fixtures", "tokenizers");

    private readonly Dictionary<string, Answer> _answers = [];
    private TemporaryFolder _work = null!;

    [OneTimeSetUp]
    public void Ask()
    {
        RequiredLlamaCpp.Check();
        _work = new TemporaryFolder();
        foreach (var name in s_models)
        {
            Ask(name, Write(ByteTokenizer.Model(_work, name), null, "f32"), Prompt(name));
        }

        foreach (var name in s_adapters)
        {
            AskOfAdapter(name);
        }

        foreach (var name in s_trained)
        {
            foreach (var dtype in new[] { "f32", "q8_0" })
            {
                Ask($"{name} {dtype}", Write(Trained(name), null, dtype), Start(name), greedy: 24, texts: Texts(PiecesGolden));
            }
        }

        foreach (var name in s_tokenizers)
        {
            Ask($"tokenizer {name}", Write(WithTokenizer(name), null, "f16"), [], texts: Texts(GoldenOf(name)));
        }
    }

    [OneTimeTearDown]
    public void Clean() => _work?.Dispose();

    [TestCaseSource(nameof(s_models))]
    public void A_model_has_the_references_logits_in_llama_cpp(string name)
    {
        // llama.cpp tabulates Gemma's activation in half precision.
        using var golden = new Golden(name);
        Assert.That(Difference(name, golden, "full.logits"), Is.LessThan(name == "gemma" ? 5e-3 : 3e-5));
    }

    [TestCaseSource(nameof(s_adapters))]
    public void A_LoRA_file_on_its_base_has_PEFTs_logits_in_llama_cpp(string name)
    {
        using var golden = new Golden(name);
        Assert.That(Difference($"{name} file", golden, "full.logits"), Is.LessThan(1e-4));
    }

    [TestCaseSource(nameof(s_adapters))]
    public void A_merged_model_has_PEFTs_merged_logits_in_llama_cpp(string name)
    {
        using var golden = new Golden(name);
        Assert.That(Difference($"{name} merged", golden, "merged.logits"), Is.LessThan(3e-5));
    }

    [TestCaseSource(nameof(s_trained))]
    public void A_trained_model_says_the_same_in_llama_cpp_with_the_same_probabilities(string name)
    {
        using var loaded = ModelLoader.Load(Trained(name), float32, CPU);
        var ids = Start(name);
        var ours = new TextGenerator(loaded.Model, new GenerationOptions { MaxNewTokens = 24 }).Continue([ids])[0].OutputIds;
        var expected = Probabilities(Rows(loaded.Model, ids));
        foreach (var (dtype, within) in new[] { ("f32", 1e-3), ("q8_0", 0.05) })
        {
            var answer = _answers[$"{name} {dtype}"];
            var same = answer.Greedy.TakeWhile((id, i) => id == ours[i]).Count();
            Assert.That(same, Is.GreaterThanOrEqualTo(dtype == "f32" ? Math.Min(ours.Count, answer.Greedy.Count) : 4), $"{dtype}: {string.Join(", ", answer.Greedy)} and ours {string.Join(", ", ours)}");
            var actual = Probabilities([.. answer.Logits.Select(static r => Array.ConvertAll(r, static v => (double)v))]);
            Assert.That(actual.Zip(expected).Max(static p => p.First.Zip(p.Second).Max(static q => Math.Abs(q.First - q.Second))), Is.LessThan(within), dtype);
        }
    }

    [TestCaseSource(nameof(s_trained))]
    public void A_trained_models_tokens_are_ours_in_llama_cpp(string name) =>
        CompareTokens(_answers[$"{name} f32"], Tokenizer.Load(Trained(name)), Texts(PiecesGolden));

    [TestCaseSource(nameof(s_tokenizers))]
    public void A_tokenizers_tokens_are_Hugging_Faces_in_llama_cpp(string name) =>
        CompareTokens(_answers[$"tokenizer {name}"], Tokenizer.Load(Folder(name)), Texts(GoldenOf(name)), name);

    private static string Folder(string tokenizer) => SharedFiles.Require(["fixtures", "tokenizers", .. tokenizer.Split('/')]);

    // Qwen 2's vocab.json and merges.txt are what Qwen 3's tokenizer.json has.
    private static string GoldenOf(string tokenizer) =>
        tokenizer.StartsWith("own/", StringComparison.Ordinal) ? $"{tokenizer.Replace("/", "__", StringComparison.Ordinal)}.json" : $"{(tokenizer == "qwen2" ? "qwen3" : tokenizer)}__tokenizer.json";

    // llama.cpp does not normalise the text (Qwen's tokenizer composes characters, so that the text comes back changed), takes
    // any token </s> for a special one, and puts Mistral's space also before a text that begins with one and after special tokens.
    private static bool IsLimit(string name, Tokenizer tokenizer, string text) => name switch
    {
        "qwen2" or "qwen3" or "own/bytes-qwen-2" => text.Contains("</s>", StringComparison.Ordinal) || tokenizer.Decode(tokenizer.Encode(text, addSpecialTokens: false), skipSpecialTokens: false) != text,
        "mistral-7b-v0.1" => text[0] is ' ' or '\u2581' || text.Contains("<s>", StringComparison.Ordinal) || text.Contains("</s>", StringComparison.Ordinal),
        _ => false,
    };

    private static void CompareTokens(Answer answer, Tokenizer tokenizer, IReadOnlyList<string> texts, string name = "")
    {
        var different = texts.Zip(answer.Tokens)
            .Where(pair => !IsLimit(name, tokenizer, pair.First) && !tokenizer.Encode(pair.First, addSpecialTokens: false).SequenceEqual(pair.Second))
            .Select(pair => $"{JsonValue.Create(pair.First).ToJsonString()}: {string.Join(',', tokenizer.Encode(pair.First, addSpecialTokens: false))} and llama.cpp's {string.Join(',', pair.Second)}")
            .ToList();
        Assert.That(different, Is.Empty, $"{different.Count} of {texts.Count} texts differ");
    }

    // The golden strings, without what llama.cpp itself cannot say: it ends a text at its first zero byte.
    private static List<string> Texts(string golden) =>
        [.. JsonNode.Parse(File.ReadAllText(SharedFiles.Require("goldens", "tokenizer", golden)))!["cases"]!.AsArray().Select(static c => c!["text"]!.GetValue<string>()).Where(static t => t.Length > 0 && !t.Contains('\0'))];

    private static int[] Prompt(string golden)
    {
        using var reference = new Golden(golden);
        return Ints(reference.Json["runs"]!["full"]!["input_ids"]![0]!);
    }

    private static int[] Ints(JsonNode list) => [.. list.AsArray().Select(static i => i!.GetValue<int>())];

    private static string Trained(string name) => name == "stories"
        ? SharedFiles.Require("fixtures", "weights", "stories260K-hf")
        : Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base");

    private static int[] Start(string name) => name == "stories" ? [1, 403, 407, 261, 378] : [1, 50, 60, 70];

    private void Ask(string name, string file, int[] ids, string? lora = null, int greedy = 0, IReadOnlyList<string>? texts = null)
    {
        using var model = new LlamaModel(file, lora);
        _answers[name] = new Answer(
            ids.Length > 0 ? model.Logits(ids) : [],
            greedy > 0 ? model.Greedy(ids, greedy) : [],
            [.. (texts ?? []).Select(model.Tokens)]);
    }

    private void AskOfAdapter(string name)
    {
        using var golden = new Golden(name);
        var @base = Path.GetFileName(golden.Json["base"]!.ToString());
        var folder = Path.Combine(_work.Root, @base);
        using var meta = ModelLoader.LoadMeta(folder);
        using var adapter = PeftFolder.Load(meta.Model, golden.Folder);
        var lora = _work[$"{name}.gguf"];
        GgufLoraExport.Write(meta.Folder, adapter, lora);
        Assert.That(GgufLoraExport.RequireSame(meta.Folder, adapter, lora), Is.EqualTo(adapter.Parameters.Count));
        Ask($"{name} file", _work[$"{@base} f32.gguf"], Prompt(name), lora);
        Ask($"{name} merged", Write(folder, adapter, "f32", $"{name} merged"), Prompt(name));
    }

    private string Write(string folder, PeftAdapter? adapter, string dtype, string? name = null)
    {
        var path = _work[$"{name ?? Path.GetFileName(folder)} {dtype}.gguf"];
        using var mix = adapter is null ? null : new CombinedAdapter([(adapter, 1)]);
        _ = GgufExport.Write(ModelFolder.Open(folder), mix, path, GgufPreset.Of(dtype));
        return path;
    }

    private string WithTokenizer(string name)
    {
        var source = Folder(name);
        var shape = new ModelShape { HiddenSize = 32, IntermediateSize = 32, Layers = 1, Heads = 2, KeyValueHeads = 2, VocabularySize = Tokenizer.Load(source).VocabularySize + 3 };
        var folder = _work[$"model of {name.Replace('/', ' ')}"];
        _ = NewModel.Write("llama", shape, 1, float32, folder, work =>
        {
            foreach (var file in new[] { "tokenizer*.json", "vocab.json", "merges.txt" }.SelectMany(pattern => Directory.EnumerateFiles(source, pattern)))
            {
                File.WriteAllBytes(Path.Combine(work, Path.GetFileName(file)), File.ReadAllBytes(file));
            }
        });
        return folder;
    }

    private double Difference(string name, Golden golden, string wanted)
    {
        using var scope = NewDisposeScope();
        var logits = _answers[name].Logits;
        var actual = tensor(logits.SelectMany(static r => r).ToArray(), [logits.Length, logits[0].Length]);
        return Golden.LargestDifference(actual, golden.Tensor(wanted).narrow(0, 0, 1).squeeze(0));
    }

    private static double[][] Rows(CausalLanguageModel model, int[] ids)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var logits = model.Logits(model.call(ModelInput.Rows(tensor(Array.ConvertAll(ids, static i => (long)i), [1, ids.Length])))).squeeze(0).to(float64).contiguous();
        var all = System.Runtime.InteropServices.MemoryMarshal.Cast<byte, double>(logits.bytes).ToArray();
        return [.. all.Chunk(all.Length / ids.Length)];
    }

    private static double[][] Probabilities(double[][] logits) =>
        [.. logits.Select(static row =>
        {
            var largest = row.Max();
            var sum = row.Sum(v => Math.Exp(v - largest));
            return row.Select(v => Math.Exp(v - largest) / sum).ToArray();
        })];

    private sealed record Answer(float[][] Logits, IReadOnlyList<int> Greedy, IReadOnlyList<IReadOnlyList<int>> Tokens);
}
