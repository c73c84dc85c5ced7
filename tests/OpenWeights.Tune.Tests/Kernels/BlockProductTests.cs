using NUnit.Framework;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.Gguf.Blocks;
using OpenWeights.Testing;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Decoding.Decode;
using OpenWeights.Tune.Export.Gguf;
using OpenWeights.Tune.Init;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Quantization;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Kernels;

/// <summary>Rows of GGUF blocks: their values against the decoder that follows ggml, their products against float64, for each width of vectors.</summary>
[TestFixture(true)]
[TestFixture(false)]
public sealed class BlockProductTests(bool wide)
{
    private static readonly IEnumerable<GgufType> s_types = Enum.GetValues<GgufType>().Where(GgufWeight.Serves);

    // Where a block has half-precision numbers.
    private static readonly Dictionary<GgufType, int[]> s_halves = new()
    {
        [GgufType.Q4_0] = [0],
        [GgufType.Q4_1] = [0, 2],
        [GgufType.Q5_0] = [0],
        [GgufType.Q5_1] = [0, 2],
        [GgufType.Q8_0] = [0],
        [GgufType.Q2_K] = [80, 82],
        [GgufType.Q3_K] = [108],
        [GgufType.Q4_K] = [0, 2],
        [GgufType.Q5_K] = [0, 2],
        [GgufType.Q6_K] = [208],
        [GgufType.IQ4_NL] = [0],
        [GgufType.MXFP4] = [],
    };

    private VectorWidth? _width;

    [SetUp]
    public void Choose() => _width = new VectorWidth(wide);

    [TearDown]
    public void Restore() => _width!.Dispose();

    [TestCaseSource(nameof(s_types))]
    public void Values_are_those_of_the_decoder(GgufType type)
    {
        using var scope = NewDisposeScope();
        var (matrix, bytes) = Random(type, 11, 3 * type.BlockLength());
        using var weight = new GgufWeight(matrix);
        var values = new float[matrix.OutFeatures * matrix.InFeatures];
        BlockDecoder.Decode(type, bytes, values);
        var expected = tensor(values, [matrix.OutFeatures, matrix.InFeatures]);
        Assert.That(weight.Rows(0, 11, float32).eq(expected).all().item<bool>());
        Assert.That(weight.Rows(4, 3, bfloat16).eq(expected.narrow(0, 4, 3).to(bfloat16)).all().item<bool>());
        Assert.That(weight.ByteLength, Is.EqualTo(bytes.Length));
    }

    [TestCaseSource(nameof(s_types))]
    public void Products_are_those_of_the_unpacked_weight(GgufType type)
    {
        using var scope = NewDisposeScope();
        foreach (var (outputs, blocks) in new[] { (37, 1), (6, 3), (3, 18) })
        {
            var (matrix, bytes) = Random(type, outputs, blocks * type.BlockLength());
            using var weight = new GgufWeight(matrix);
            var values = new float[outputs * matrix.InFeatures];
            BlockDecoder.Decode(type, bytes, values);
            var unpacked = tensor(values, [outputs, matrix.InFeatures]).to(float64);
            _ = manual_seed(outputs);
            var all = randn([16, matrix.InFeatures]);
            var products = QuantizedProduct.Forward(all, weight);
            var bound = 1e-6 * all.to(float64).abs().mm(unpacked.abs().t()).max().ToDouble();
            Assert.That(Golden.LargestDifference(products, all.to(float64).mm(unpacked.t())), Is.LessThan(bound));
            foreach (var count in new[] { 1, 2, 3, 4, 7 })
            {
                Assert.That(QuantizedProduct.Forward(all.narrow(0, 2, count), weight).eq(products.narrow(0, 2, count)).all().item<bool>(), $"{count} vectors alone");
            }
        }
    }

    [Test]
    public void A_file_whose_blocks_are_kept_gives_the_tokens_and_scores_of_its_unpacked_weights([Values("q8_0", "q4_0", "q4_k_m", "q6_k")] string preset, [Values] bool tied)
    {
        using var folder = new TemporaryFolder();
        var shape = new ModelShape { HiddenSize = 256, IntermediateSize = 512, Layers = 2, Heads = 4, KeyValueHeads = 2, VocabularySize = 96, MaxPositions = 64, TiedEmbeddings = tied };
        NewModel.Write("llama", shape, 5, ScalarType.Float32, folder.At("model"), addTokenizer: null);
        using (var plain = ModelLoader.Load(folder.At("model"), float32, CPU))
        {
            _ = GgufExport.Write(plain.Folder, null, folder.At("model.gguf"), GgufPreset.Of(preset));
        }

        var unpacked = GgufFolder.Unpack(folder.At("model.gguf"));
        using var kept = ModelLoader.Load(unpacked, float32, CPU, keepsBlocks: true);
        using var whole = ModelLoader.Load(unpacked, float32, CPU);
        Assert.That((kept.Model.HeldBlocks.Count > 0, whole.Model.HeldBlocks.Count > 0), Is.EqualTo((true, false)));
        Assert.That(kept.Model.ParameterBytes, Is.LessThan(0.4 * whole.Model.ParameterBytes));
        Assert.That(DecodeStep.Of(kept.Model, 3), Is.Not.Null, "packed weights are decoded in steps");
        Assert.That(Texts(kept.Model), Is.EqualTo(Texts(whole.Model)));
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        foreach (var tokens in new[] { 3, 40 })
        {
            var input = ModelInput.Rows(tensor([.. Enumerable.Range(0, tokens).Select(static i => (i * 37L) % 96)], [1, tokens]));
            Assert.That(Golden.LargestDifference(kept.Model.Logits(kept.Model.call(input)), whole.Model.Logits(whole.Model.call(input))), Is.LessThan(1e-5));
        }
    }

    private static List<int[]> Texts(CausalLanguageModel model) =>
        [.. new TextGenerator(model, new GenerationOptions { MaxNewTokens = 24 }).Continue([[1, 5, 9, 4], [7, 2], [3]]).Select(static r => r.OutputIds.ToArray())];

    // Blocks of random bits, with finite scales of any size.
    private static (GgufMatrix Matrix, byte[] Bytes) Random(GgufType type, int outputs, int inputs)
    {
        var (random, bytes, size) = (new Random(outputs + inputs), new byte[outputs * type.Bytes(inputs)], type.BlockBytes());
        random.NextBytes(bytes);
        for (var block = 0; block < bytes.Length; block += size)
        {
            bytes[block] = type == GgufType.MXFP4 ? (byte)random.Next(0, 140) : bytes[block];
            foreach (var place in s_halves[type])
            {
                var half = (Half)((random.NextSingle() - 0.5f) * MathF.Pow(2, random.Next(-24, 1)));
                System.Buffers.Binary.BinaryPrimitives.WriteHalfLittleEndian(bytes.AsSpan(block + place), half);
            }
        }

        var rowBytes = (int)type.Bytes(inputs);
        return (new GgufMatrix(type, outputs, inputs, (first, blocks) => bytes.AsSpan((int)first * rowBytes, blocks.Length).CopyTo(blocks.Span)), bytes);
    }
}
