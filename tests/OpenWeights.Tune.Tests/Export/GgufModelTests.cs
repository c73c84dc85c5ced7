using NUnit.Framework;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Testing;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Export.Gguf;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Tests.Models.Families;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Export;

/// <summary>GGUF files read as models: another program's, and our own.</summary>
public sealed class GgufModelTests
{
    [Test]
    public void Another_programs_file_tells_the_reference_story_with_its_own_tokenizer()
    {
        using var work = new TemporaryFolder();
        var folder = Unpack(work, SharedFiles.Require("fixtures", "weights", "stories260K", "stories260K.gguf"));
        var expected = File.ReadAllText(SharedFiles.Require("fixtures", "weights", "stories260K", "expected-greedy-200.txt"));
        using var loaded = ModelLoader.Load(folder, float32, CPU);
        var tokenizer = Tokenizer.Load(folder);
        var generated = new TextGenerator(loaded.Model, new GenerationOptions { MaxNewTokens = 200 }).Continue([tokenizer.Encode("", addSpecialTokens: true)])[0];
        Assert.That(tokenizer.Decode(generated.OutputIds, skipSpecialTokens: true), Is.EqualTo(expected));
    }

    private static readonly IEnumerable<string> s_written = Golden.Present("llama", "llama_bias", "llama_rope_llama3", "llama_rope_linear", "llama_rope_yarn");

    [TestCaseSource(nameof(s_written))]
    public void A_model_written_in_F32_is_read_back_with_the_same_logits_to_the_last_bit(string name)
    {
        using var work = new TemporaryFolder();
        var source = SharedFiles.Require("goldens", "reference", name);
        _ = GgufExport.Write(ModelFolder.Open(source), null, work["model.gguf"], GgufPreset.Of("f32"));
        using var golden = new Golden(name);
        var ids = Golden.Ids(golden.Json["runs"]!["full"]!["input_ids"]!);
        Assert.That(LargestDifference(source, Unpack(work, work["model.gguf"]), ids), Is.Zero);
    }

    [TestCase("f16", 2e-2)]
    [TestCase("bf16", 1.5e-1)]
    [TestCase("q8_0", 5e-1)]
    [TestCase("q6_k", 5e-1)]
    [TestCase("q4_k_m", 4)]
    [TestCase("q4_0", 9)]
    public void A_model_written_in_fewer_bits_is_near_and_smaller(string dtype, double within)
    {
        using var work = new TemporaryFolder();
        var source = SharedFiles.Require("fixtures", "weights", "stories260K-hf");
        _ = GgufExport.Write(ModelFolder.Open(source), null, work["model.gguf"], GgufPreset.Of(dtype));
        Assert.That(new FileInfo(work["model.gguf"]).Length, Is.LessThan(600_000));
        Assert.That(LargestDifference(source, Unpack(work, work["model.gguf"]), arange(3, 100, int64).view(1, -1)), Is.InRange(1e-6, within));
    }

    [TestCase("stories")]
    [TestCase("quickstart")]
    public void The_tokenizer_inside_gives_the_ids_and_texts_of_the_one_it_was_made_of(string name)
    {
        using var work = new TemporaryFolder();
        var source = name == "stories" ? SharedFiles.Require("fixtures", "weights", "stories260K-hf") : Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base");
        _ = GgufExport.Write(ModelFolder.Open(source), null, work["model.gguf"], GgufPreset.Of("f16"));
        var (expected, actual) = (Tokenizer.Load(source), Tokenizer.Load(Unpack(work, work["model.gguf"])));
        foreach (var text in new[] { "Once upon a time", " two  spaces", "line\n\nline", "grün 🦙 42", "<|im_start|>user\nhi<|im_end|>", "</s>x", "\t" })
        {
            var ids = expected.Encode(text, addSpecialTokens: true);
            Assert.That(actual.Encode(text, addSpecialTokens: true), Is.EqualTo(ids), text);
            Assert.That(actual.Decode(ids, skipSpecialTokens: true), Is.EqualTo(expected.Decode(ids, skipSpecialTokens: true)), text);
        }

        Assert.That((actual.EosToken, actual.ChatTemplateText), Is.EqualTo((expected.EosToken, expected.ChatTemplateText)));
    }

    [TestCase("gemma2", "query_pre_attn_scalar")]
    [TestCase("mistral", "sliding_window")]
    public void What_llama_cpp_would_compute_otherwise_is_refused(string name, string setting)
    {
        using var source = new TemporaryFolder();
        using var work = new TemporaryFolder();
        var folder = ModelFolder.Open(FamilyCases.Write(source, name));
        Assert.That(() => GgufExport.Write(folder, null, work["model.gguf"], GgufPreset.Of("f32")), Throws.InstanceOf<InvalidDataException>().With.Message.Contains(setting));
        Assert.That(work.Names, Is.Empty);
    }

    [Test]
    public void A_model_is_named_as_the_world_knows_it()
    {
        using var work = new TemporaryFolder();
        var snapshot = work.At("hub", "models--org--tiny-model", "snapshots", "0123abcd");
        Assert.That(ModelPath.NameOf(snapshot), Is.EqualTo("org/tiny-model"));
        Assert.That(ModelPath.NameOf(work.Root), Is.EqualTo(Path.GetFileName(work.Root)));
        var file = SharedFiles.Require("fixtures", "weights", "stories260K", "stories260K.gguf");
        Assert.That(ModelPath.NameOf(Unpack(work, file)), Is.EqualTo(Path.GetFileName(file)));
    }

    [Test]
    public void The_mixed_preset_gives_more_bits_where_llama_cpps_quantiser_does()
    {
        var preset = GgufPreset.Of("q4_k_m");
        GgufType Of(string name, long rowLength = 512) => preset.TypeOf(name, [512, rowLength], new GgufModelFacts(16, Tied: false));
        Assert.That(Enumerable.Range(0, 16).Where(i => Of($"blk.{i}.attn_v.weight") == GgufType.Q6_K), Is.EqualTo(new[] { 0, 1, 4, 7, 10, 13, 14, 15 }));
        Assert.That((Of("blk.0.attn_q.weight"), Of("output.weight"), Of("token_embd.weight")), Is.EqualTo((GgufType.Q4_K, GgufType.Q6_K, GgufType.Q4_K)));
        Assert.That((Of("blk.0.attn_q.weight", 576), Of("blk.0.ffn_down.weight", 576), Of("blk.0.attn_q.weight", 100)), Is.EqualTo((GgufType.Q5_0, GgufType.Q8_0, GgufType.F16)));
    }

    private static string Unpack(TemporaryFolder work, string file)
    {
        var folder = work.Folder("unpacked");
        GgufFolder.Unpack(file, folder);
        return folder;
    }

    private static double LargestDifference(string expected, string actual, Tensor ids)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        using var first = ModelLoader.Load(expected, float32, CPU);
        using var second = ModelLoader.Load(actual, float32, CPU);
        Tensor Logits(LoadedModel model) => model.Model.Logits(model.Model.call(ModelInput.Rows(ids)));
        return Logits(first).sub(Logits(second)).abs().max().ToDouble();
    }
}
