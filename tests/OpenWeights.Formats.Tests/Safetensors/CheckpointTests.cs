using NUnit.Framework;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;

namespace OpenWeights.Formats.Tests.Safetensors;

public sealed class CheckpointTests
{
    private const string IndexName = "model.safetensors.index.json";

    private TemporaryFolder folder = null!;

    [SetUp]
    public void CreateFolder() => folder = new TemporaryFolder();

    [TearDown]
    public void RemoveFolder() => folder.Dispose();

    [Test]
    public void A_small_model_is_one_file_without_an_index()
    {
        var names = CheckpointWriter.Write(folder.Root, [Tensor("b", 6), Tensor("a", 4)], maxShardBytes: 10);

        Assert.That(names, Is.EqualTo(new[] { "model.safetensors" }));
        Assert.That(folder.Names, Is.EqualTo(names));
        using var weights = CheckpointWeights.Open(folder.Root);
        Assert.That(weights.Tensors.Select(tensor => tensor.Name), Is.EqualTo(new[] { "a", "b" }));
        Assert.That(weights.ByteLength, Is.EqualTo(10));
    }

    [Test]
    public void A_shard_ends_before_the_tensor_that_would_make_it_too_large_as_in_the_reference()
    {
        // The reference's own example: 6, 6, 2, 6, 2, 2 with a limit of 10 gives [6], [6+2], [6+2+2].
        WriteExample();

        Assert.That(folder.Names, Is.EqualTo(new[]
        {
            "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors", IndexName,
        }));
        Assert.That(File.ReadAllText(folder[IndexName]), Is.EqualTo(
            """
            {
              "metadata": {
                "total_size": 24
              },
              "weight_map": {
                "t0": "model-00001-of-00003.safetensors",
                "t1": "model-00002-of-00003.safetensors",
                "t2": "model-00002-of-00003.safetensors",
                "t3": "model-00003-of-00003.safetensors",
                "t4": "model-00003-of-00003.safetensors",
                "t5": "model-00003-of-00003.safetensors"
              }
            }

            """.ReplaceLineEndings("\n")));
    }

    [Test]
    public void A_tensor_larger_than_a_shard_has_a_shard_of_its_own()
    {
        var names = CheckpointWriter.Write(folder.Root, [Tensor("a", 3), Tensor("large", 11), Tensor("b", 3)], maxShardBytes: 10);
        using var large = SafetensorsFile.Open(folder[names[0]]);
        using var small = SafetensorsFile.Open(folder[names[1]]);

        Assert.That(large.Tensors.Single().Name, Is.EqualTo("large"));
        Assert.That(small.Tensors.Select(tensor => tensor.Name), Is.EqualTo(new[] { "a", "b" }));
        Assert.That(large.Metadata!["format"], Is.EqualTo("pt"));
    }

    [Test]
    public void A_sharded_model_reads_like_the_single_file_it_came_from()
    {
        using var source = SafetensorsFile.Open(SharedFiles.Require("goldens", "reference", "llama", "model.safetensors"));
        var names = CheckpointWriter.Write(
            folder.Root, [.. source.Tensors.Select(tensor => TensorToWrite.FromSource(source, tensor.Name))], maxShardBytes: 200_000);
        using var weights = CheckpointWeights.Open(folder.Root);

        Assert.That(names, Has.Count.EqualTo(4), "538,368 bytes in three shards, and the index");
        Assert.That(weights.FilePaths, Is.EqualTo(names.SkipLast(1).Select(name => folder[name])));
        Assert.That(weights.Tensors.Select(tensor => tensor.Name), Is.EquivalentTo(source.Tensors.Select(tensor => tensor.Name)));
        Assert.That(weights.ByteLength, Is.EqualTo(source.Tensors.Sum(tensor => tensor.ByteLength)));
        Assert.That(weights.UnindexedTensors, Is.Empty);
        foreach (var tensor in source.Tensors)
        {
            Assert.That(weights.GetTensor(tensor.Name).Shape, Is.EqualTo(tensor.Shape));
            Assert.That(weights.ReadBytes(tensor.Name), Is.EqualTo(source.ReadBytes(tensor.Name)));
        }

        Assert.That(weights.FilePaths.Select(path => new FileInfo(path).Length), Has.All.LessThan(205_000));
    }

    [Test]
    public void Missing_shards_are_all_named()
    {
        WriteExample();
        File.Delete(folder["model-00001-of-00003.safetensors"]);
        File.Delete(folder["model-00003-of-00003.safetensors"]);

        Assert.That(() => CheckpointWeights.Open(folder.Root), Throws.InstanceOf<FileNotFoundException>().With.Message.Contains(
            "lacks 2 of the 3 shards that model.safetensors.index.json names: model-00001-of-00003.safetensors, model-00003-of-00003.safetensors; download them"));
    }

    [Test]
    public void A_cut_shard_is_named_with_its_tensor()
    {
        WriteExample();
        using (var shard = new FileStream(folder["model-00002-of-00003.safetensors"], FileMode.Open))
        {
            shard.SetLength(shard.Length - 1);
        }

        Assert.That(() => CheckpointWeights.Open(folder.Root), Throws.InstanceOf<InvalidDataException>()
            .With.Message.Contains("model-00002-of-00003.safetensors").And.Message.Contains("\"t2\""));
    }

    [Test]
    public void Shards_that_disagree_with_their_index_are_refused_with_every_fault()
    {
        SafetensorsWriter.Write(folder["one.safetensors"], [Tensor("a", 1), Tensor("b", 1), Tensor("c", 1)]);
        SafetensorsWriter.Write(folder["two.safetensors"], [Tensor("b", 1)]);
        WriteIndex("""{"weight_map":{"a":"two.safetensors","b":"one.safetensors","c":"one.safetensors","d":"two.safetensors"}}""");

        Assert.That(() => CheckpointWeights.Open(folder.Root), Throws.InstanceOf<InvalidDataException>().With.Message.Contains(IndexName)
            .And.Message.Contains("\"a\" is in one.safetensors and not in two.safetensors")
            .And.Message.Contains("\"b\" is in one.safetensors and in two.safetensors")
            .And.Message.Contains("\"d\" is not in two.safetensors, nor in any other shard")
            .And.Message.Not.Contains("\"c\""));
    }

    [Test]
    public void A_tensor_that_the_index_does_not_know_is_reported_and_left_out()
    {
        SafetensorsWriter.Write(folder["one.safetensors"], [Tensor("a", 1), Tensor("rotary.inv_freq", 1)]);
        WriteIndex("""{"metadata":{"total_size":1},"weight_map":{"a":"one.safetensors"}}""");
        using var weights = CheckpointWeights.Open(folder.Root);

        Assert.That(weights.UnindexedTensors, Is.EqualTo(new[] { "rotary.inv_freq" }));
        Assert.That(weights.Tensors.Select(tensor => tensor.Name), Is.EqualTo(new[] { "a" }));
        Assert.That(weights.TryGetTensor("rotary.inv_freq", out _), Is.False);
    }

    [TestCase("""{"weight_map":{"a":"../secret.safetensors"}}""", "not a plain file name")]
    [TestCase("""{"weight_map":{"a":"/etc/passwd"}}""", "not a plain file name")]
    [TestCase("""{"weight_map":{"a":"..\\secret.safetensors"}}""", "not a plain file name")]
    [TestCase("""{"weight_map":{"a":".."}}""", "not a plain file name")]
    [TestCase("""{"weight_map":{"a":""}}""", "not a plain file name")]
    [TestCase("""{"weight_map":{"a":3}}""", "is not a file name")]
    [TestCase("""{"weight_map":{"a":null}}""", "is not a file name")]
    [TestCase("""{"weight_map":{"a":"one","a":"two"}}""", "a")]
    [TestCase("""{"weight_map":{}}""", "no weight_map")]
    [TestCase("""{"metadata":{}}""", "no weight_map")]
    [TestCase("""{"weight_map":""", "line 1, column 15")]
    public void An_invalid_index_is_refused(string index, string expected)
    {
        WriteIndex(index);

        Assert.That(() => CheckpointWeights.Open(folder.Root), Throws.InstanceOf<InvalidDataException>()
            .With.Message.Contains(folder[IndexName]).And.Message.Contains(expected));
    }

    [TestCase("pytorch_model.bin", "PyTorch's own format (pytorch_model.bin)")]
    [TestCase("pytorch_model-00001-of-00002.bin", "PyTorch's own format")]
    [TestCase("model-00001-of-00002.safetensors", "not their index")]
    [TestCase("consolidated.safetensors", "has consolidated.safetensors but neither")]
    [TestCase("adapter_model.safetensors", "has an adapter")]
    [TestCase("model-q4.gguf", "GGUF")]
    [TestCase("config.json", "has no weights")]
    public void A_folder_without_weights_is_refused_by_what_it_has_instead(string file, string expected)
    {
        File.WriteAllText(folder[file], "");

        Assert.That(CheckpointWeights.ExistIn(folder.Root), Is.False);
        Assert.That(() => CheckpointWeights.Open(folder.Root), Throws.InstanceOf<FileNotFoundException>()
            .With.Message.StartsWith(folder.Root).And.Message.Contains(expected));
    }

    [Test]
    public void New_weights_are_not_mixed_with_old_ones()
    {
        CheckpointWriter.Write(folder.Root, [Tensor("a", 1)]);

        Assert.That(() => CheckpointWriter.Write(folder.Root, [Tensor("a", 1)]), Throws.InstanceOf<IOException>()
            .With.Message.Contains("holds model.safetensors already"));
        Assert.That(() => CheckpointWriter.Write(folder.Root, [Tensor("a", 1), Tensor("a", 2)]), Throws.ArgumentException);
        Assert.That(() => CheckpointWriter.Write(folder.Root, [], maxShardBytes: 0), Throws.InstanceOf<ArgumentOutOfRangeException>());
    }

    [Test]
    public void After_disposal_the_weights_say_so()
    {
        WriteExample();
        var weights = CheckpointWeights.Open(folder.Root);
        weights.Dispose();

        Assert.That(() => weights.ReadBytes("t3"), Throws.InstanceOf<ObjectDisposedException>());
    }

    private void WriteExample() =>
        CheckpointWriter.Write(folder.Root, [.. new[] { 6, 6, 2, 6, 2, 2 }.Select((size, i) => Tensor($"t{i}", size))], maxShardBytes: 10);

    private void WriteIndex(string text) => File.WriteAllText(folder[IndexName], text);

    private static TensorToWrite Tensor(string name, int bytes) => new(name, DType.U8, [bytes], stream => stream.Write(new byte[bytes]));
}
