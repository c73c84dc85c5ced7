using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Export.Gguf;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Models;

/// <summary>A config that says embedding and head are one weight, over a file that holds two.</summary>
public sealed class HeadTieTests
{
    [TestCase(false)]
    [TestCase(true)]
    public void A_head_of_its_own_is_used_and_told_wherever_the_model_goes(bool inHalf)
    {
        using var folder = new TemporaryFolder();
        var tied = TinyModel.Write(folder, "tied");
        var odd = WithHead(folder, tied, factor: -2, inHalf);
        using var one = ModelLoader.Load(tied, float32, TestDevice.Current);
        using var two = ModelLoader.Load(odd, float32, TestDevice.Current);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        Assert.That(one.Warnings, Is.Empty);
        Assert.That(two.Warnings, Has.One.Contains("lm_head.weight differs from"));
        Assert.That(Golden.LargestDifference(Logits(two), Logits(one).mul(-2)), Is.LessThan(0.05));

        ModelFolderWriter.Write(two, folder.At("full"));
        _ = MergedExport.Write(two, new OpenWeights.Tune.Adapters.CombinedAdapter([]), folder.At("merged"), null, 1 << 30);
        MergedExport.Write(two.Folder, folder.At("copy"), float32, 1 << 30);
        foreach (var written in new[] { "full", "merged", "copy" })
        {
            Assert.That(JsonNode.Parse(File.ReadAllText(folder.At(written, "config.json")))!["tie_word_embeddings"]!.GetValue<bool>(), Is.False, written);
            using var again = ModelLoader.Load(folder.At(written), float32, TestDevice.Current);
            Assert.That(again.Warnings, Is.Empty, written);
            Assert.That(Golden.LargestDifference(Logits(again), Logits(two)), Is.LessThan(1e-5), written);
        }

        _ = GgufExport.Write(two.Folder, null, folder.At("odd.gguf"), GgufPreset.Of("f32"));
        using var gguf = ModelLoader.Load(OpenWeights.Formats.Gguf.GgufFolder.Unpack(folder.At("odd.gguf")), float32, TestDevice.Current);
        Assert.That(Golden.LargestDifference(Logits(gguf), Logits(two)), Is.LessThan(1e-4));
    }

    [Test]
    public void A_copy_of_the_embedding_is_no_head_of_its_own()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(WithHead(folder, TinyModel.Write(folder, "tied"), factor: 1, inHalf: false), float32, TestDevice.Current);
        Assert.That((loaded.Warnings.Count, loaded.Model.Config.TiedEmbeddings), Is.EqualTo((0, true)));
    }

    private static Tensor Logits(LoadedModel loaded) => loaded.Model.Logits(loaded.Model.call(ModelInput.Rows(tensor(new long[] { 1, 5, 9, 30 }, [1, 4]))));

    private static string WithHead(TemporaryFolder folder, string path, double factor, bool inHalf)
    {
        var copy = folder.Folder("odd");
        File.Copy(Path.Combine(path, "config.json"), Path.Combine(copy, "config.json"));
        using var weights = CheckpointWeights.Open(path);
        using var scope = NewDisposeScope();
        var head = TensorFiles.Read(weights, "model.embed_tokens.weight").mul(factor);
        SafetensorsWriter.Write(Path.Combine(copy, "model.safetensors"),
            [.. weights.Tensors.Select(t => TensorToWrite.FromSource(weights, t.Name)), TensorFiles.ToWrite("lm_head.weight", head, inHalf ? bfloat16 : float32)]);
        return copy;
    }
}
