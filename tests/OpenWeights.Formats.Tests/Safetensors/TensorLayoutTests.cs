using System.Runtime.InteropServices;
using NUnit.Framework;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;

namespace OpenWeights.Formats.Tests.Safetensors;

/// <summary>Checkpoints whose tensors have other names than the model's modules, or lie in pieces.</summary>
public sealed class TensorLayoutTests
{
    private const int Experts = 11;
    private const int Inner = 2;
    private const int Hidden = 5;

    private static readonly FamilyFacts s_mixture = new()
    {
        ModelType = "mixture",
        ClassName = "MixtureForCausalLM",
        Layout = new(
            [new(@"^backbone\.(embeddings|layers)\.", "model.$1."), new(@"\.block_sparse_moe\.", ".mlp."), new(@"^embed_out\.", "lm_head.")],
            [new(".mlp.experts.gate_up_proj", ".mlp.experts.{e}.w1.weight", ".mlp.experts.{e}.w3.weight"), new(".mlp.experts.down_proj", ".mlp.experts.{e}.w2.weight"), new(".conv1d.weight", ".q_conv1d.weight", ".k_conv1d.weight", ".v_conv1d.weight")]),
    };

    [Test]
    public void Renamed_tensors_are_found_by_the_modules_names()
    {
        using var folder = Write(Mixture());
        using var weights = CheckpointWeights.Open(folder.Root, s_mixture.Layout);
        Assert.That(weights.Tensors.Select(static t => t.Name), Is.EquivalentTo(new[]
        {
            "lm_head.weight", "model.embeddings.weight", "model.layers.0.mlp.gate.weight", "model.layers.0.mlp.experts.gate_up_proj", "model.layers.0.mlp.experts.down_proj", "model.layers.0.conv1d.weight",
        }));
        Assert.That(Read(weights, "lm_head.weight"), Is.EqualTo(Numbers(9000, 3)));
        Assert.That(weights.Stored.Tensors.Select(static t => t.Name), Is.EquivalentTo(Mixture().Select(static t => t.Name)), "the files' own names stay known");
    }

    [Test]
    public void The_matrices_of_experts_are_stacked_with_gate_above_up()
    {
        using var folder = Write(Mixture());
        using var weights = CheckpointWeights.Open(folder.Root, s_mixture.Layout);
        Assert.That(weights.GetTensor("model.layers.0.mlp.experts.gate_up_proj").Shape, Is.EqualTo(new long[] { Experts, 2 * Inner, Hidden }));
        Assert.That(weights.GetTensor("model.layers.0.mlp.experts.down_proj").Shape, Is.EqualTo(new long[] { Experts, Hidden, Inner }));
        var expected = Enumerable.Range(0, Experts).SelectMany(static e => Numbers(GateOf(e), Inner * Hidden).Concat(Numbers(UpOf(e), Inner * Hidden)));
        Assert.That(Read(weights, "model.layers.0.mlp.experts.gate_up_proj"), Is.EqualTo(expected), "expert 10 follows expert 9");
    }

    [Test]
    public void Pieces_of_unequal_sizes_follow_each_other()
    {
        using var folder = Write(Mixture());
        using var weights = CheckpointWeights.Open(folder.Root, s_mixture.Layout);
        Assert.That(weights.GetTensor("model.layers.0.conv1d.weight").Shape, Is.EqualTo(new long[] { 8, 1, 4 }));
        Assert.That(Read(weights, "model.layers.0.conv1d.weight"), Is.EqualTo(Numbers(5000, 12).Concat(Numbers(6000, 12)).Concat(Numbers(7000, 8))));
    }

    [Test]
    public void Any_part_of_a_joined_tensor_can_be_read()
    {
        using var folder = Write(Mixture());
        using var weights = CheckpointWeights.Open(folder.Root, s_mixture.Layout);
        var whole = weights.ReadBytes("model.layers.0.mlp.experts.gate_up_proj");
        var random = new Random(4);
        for (var i = 0; i < 300; i++)
        {
            var offset = random.Next(whole.Length + 1);
            var part = new byte[random.Next(whole.Length - offset + 1)];
            weights.CopyTo("model.layers.0.mlp.experts.gate_up_proj", offset, part);
            Assert.That(part.AsSpan().SequenceEqual(whole.AsSpan(offset, part.Length)), $"{part.Length} bytes from {offset} on");
        }

        Assert.That(() => weights.CopyTo("model.layers.0.mlp.experts.gate_up_proj", whole.Length - 3, new byte[4]), Throws.InstanceOf<ArgumentOutOfRangeException>());
    }

    [Test]
    public void Pieces_may_lie_in_different_files()
    {
        using var folder = new TemporaryFolder();
        _ = CheckpointWriter.Write(folder.Root, [.. Mixture().Reverse()], maxShardBytes: 100);
        using var weights = CheckpointWeights.Open(folder.Root, s_mixture.Layout);
        Assert.That(weights.FilePaths, Has.Count.GreaterThan(5));
        using var single = Write(Mixture());
        using var expected = CheckpointWeights.Open(single.Root, s_mixture.Layout);
        foreach (var tensor in expected.Tensors)
        {
            Assert.That(weights.ReadBytes(tensor.Name), Is.EqualTo(expected.ReadBytes(tensor.Name)), tensor.Name);
        }
    }

    [Test]
    public void Tensors_under_the_modules_own_names_stay_as_they_are()
    {
        TensorToWrite[] tensors = [Tensor("model.layers.0.mlp.experts.gate_up_proj", 0, 2, 4, 3), Tensor("model.layers.0.mlp.gate.weight", 50, 2, 3), Tensor("lm_head.weight", 90, 3)];
        using var folder = Write(tensors);
        using var weights = CheckpointWeights.Open(folder.Root, s_mixture.Layout);
        Assert.That(weights.Tensors.Select(static t => t.ToString()), Is.EquivalentTo(tensors.Select(static t => t.ToString())));
        Assert.That(weights.StoredName("model.layers.1.mlp.gate.weight"), Is.EqualTo("model.layers.1.mlp.gate.weight"), "what is missing would have the modules' names too");
    }

    [Test]
    public void Each_stored_tensor_tells_which_part_of_which_tensor_it_is()
    {
        using var folder = Write(Mixture());
        using var weights = CheckpointWeights.Open(folder.Root, s_mixture.Layout);
        Assert.That(weights.HeldBy("backbone.layers.0.block_sparse_moe.experts.3.w3.weight"), Is.EqualTo(new[]
        {
            new TensorPiece("backbone.layers.0.block_sparse_moe.experts.3.w3.weight", 0, "model.layers.0.mlp.experts.gate_up_proj", 7 * Inner * Hidden, Inner * Hidden),
        }));
        foreach (var stored in weights.Stored.Tensors)
        {
            var piece = weights.HeldBy(stored.Name).Single();
            var part = new byte[stored.ByteLength];
            weights.CopyTo(piece.Module, piece.ModuleFirst * sizeof(float), part);
            Assert.That(part, Is.EqualTo(weights.Stored.ReadBytes(stored.Name)), stored.Name);
        }
    }

    [Test]
    public void Missing_pieces_are_told_by_the_names_that_the_file_would_have()
    {
        using var folder = Write([.. Mixture().Where(static t => !t.Name.Contains(".4.w3", StringComparison.Ordinal) && !t.Name.Contains("k_conv1d", StringComparison.Ordinal))]);
        using var weights = CheckpointWeights.Open(folder.Root, s_mixture.Layout);
        Assert.That(weights.MissingPieces["model.layers.0.mlp.experts.gate_up_proj"], Is.EqualTo(new[] { "backbone.layers.0.block_sparse_moe.experts.4.w3.weight" }));
        Assert.That(weights.MissingPieces["model.layers.0.conv1d.weight"], Is.EqualTo(new[] { "backbone.layers.0.k_conv1d.weight" }));
        Assert.That(weights.StoredName("model.layers.1.mlp.gate.weight"), Is.EqualTo("backbone.layers.1.block_sparse_moe.gate.weight"));
        Assert.That(weights.TryGetTensor("model.layers.0.conv1d.weight", out _), Is.False);
    }

    [Test]
    public void Pieces_that_do_not_fit_together_are_refused_by_name()
    {
        var tensors = Mixture().Where(static t => !t.Name.Contains(".4.w3", StringComparison.Ordinal));
        using var folder = Write([.. tensors, Tensor("backbone.layers.0.block_sparse_moe.experts.4.w3.weight", 0, Inner + 1, Hidden)]);
        Assert.That(() => CheckpointWeights.Open(folder.Root, s_mixture.Layout), Throws.InstanceOf<InvalidDataException>()
            .With.Message.Contains("experts.4.w3.weight F32 [3,5] does not fit beside backbone.layers.0.block_sparse_moe.experts.0.w3.weight F32 [2,5]"));
    }

    [Test]
    public void Two_tensors_of_one_module_are_refused_by_name()
    {
        using var folder = Write([Tensor("embed_out.weight", 0, 3), Tensor("lm_head.weight", 0, 3)]);
        Assert.That(() => CheckpointWeights.Open(folder.Root, s_mixture.Layout), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("are both the model's lm_head.weight"));
    }

    [Test]
    public void A_new_checkpoint_has_the_usual_names_and_pieces()
    {
        var parts = s_mixture.Layout!.PartsOf("model.layers.0.mlp.experts.gate_up_proj", [2, 6, 5]);
        Assert.That(parts.Select(static p => (p.Name, p.First)), Is.EqualTo(new[]
        {
            ("backbone.layers.0.block_sparse_moe.experts.0.w1.weight", 0L), ("backbone.layers.0.block_sparse_moe.experts.0.w3.weight", 15),
            ("backbone.layers.0.block_sparse_moe.experts.1.w1.weight", 30), ("backbone.layers.0.block_sparse_moe.experts.1.w3.weight", 45),
        }));
        Assert.That(s_mixture.Layout.PartsOf("model.layers.0.conv1d.weight", [128, 1, 4]).Select(static p => p.Shape[0]), Is.EqualTo(new[] { 43, 43, 42 }));
        Assert.That(s_mixture.Layout.PartsOf("lm_head.weight", [8, 2]).Single().Name, Is.EqualTo("embed_out.weight"));
    }

    private static TensorToWrite[] Mixture() =>
    [
        Tensor("embed_out.weight", 9000, 3),
        Tensor("backbone.embeddings.weight", 9500, 3),
        Tensor("backbone.layers.0.block_sparse_moe.gate.weight", 9900, Experts, Hidden),
        .. Enumerable.Range(0, Experts).Order(Comparer<int>.Create(static (x, y) => string.CompareOrdinal($"{x}", $"{y}"))).SelectMany(static e => new[]
        {
            Tensor($"backbone.layers.0.block_sparse_moe.experts.{e}.w1.weight", GateOf(e), Inner, Hidden),
            Tensor($"backbone.layers.0.block_sparse_moe.experts.{e}.w2.weight", 20 + (e * 1000), Hidden, Inner),
            Tensor($"backbone.layers.0.block_sparse_moe.experts.{e}.w3.weight", UpOf(e), Inner, Hidden),
        }),
        Tensor("backbone.layers.0.k_conv1d.weight", 6000, 3, 1, 4),
        Tensor("backbone.layers.0.q_conv1d.weight", 5000, 3, 1, 4),
        Tensor("backbone.layers.0.v_conv1d.weight", 7000, 2, 1, 4),
    ];

    private static int GateOf(int expert) => expert * 1000;

    private static int UpOf(int expert) => 500 + (expert * 1000);

    private static TemporaryFolder Write(IReadOnlyList<TensorToWrite> tensors)
    {
        var folder = new TemporaryFolder();
        SafetensorsWriter.Write(folder.At("model.safetensors"), tensors);
        return folder;
    }

    private static TensorToWrite Tensor(string name, int first, params long[] shape) =>
        new(name, DType.F32, shape, stream => stream.Write(MemoryMarshal.AsBytes<float>(Numbers(first, (int)shape.Aggregate(1L, static (p, s) => p * s)))));

    private static float[] Numbers(int first, int count) => [.. Enumerable.Range(first, count).Select(static i => (float)i)];

    private static float[] Read(CheckpointWeights weights, string name) => MemoryMarshal.Cast<byte, float>(weights.ReadBytes(name)).ToArray();
}
