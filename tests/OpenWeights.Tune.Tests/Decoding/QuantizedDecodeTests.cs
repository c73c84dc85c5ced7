using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Decoding.Decode;
using OpenWeights.Tune.Init;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Quantization;
using OpenWeights.Tune.Tests.Kernels;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Decoding;

/// <summary>Texts that are decoded from packed weights, for each set of instructions.</summary>
[TestFixture(true, true)]
[TestFixture(false, true)]
[TestFixture(false, false)]
public sealed class QuantizedDecodeTests(bool wide, bool looksUp)
{
    private VectorWidth? _width;

    [SetUp]
    public void Choose() => _width = new VectorWidth(wide, looksUp);

    [TearDown]
    public void Restore() => _width!.Dispose();

    [Test]
    public void Packed_weights_give_the_tokens_of_unpacked_ones([Values("nf4", "int8")] string quantization, [Values] bool adapted)
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(Written(folder), float32, CPU, QuantizationSettings.Of(quantization));
        using var adapter = adapted ? Adapt(loaded.Model) : null;
        Assert.That(DecodeStep.Of(loaded.Model, 2), Is.Not.Null, "packed weights are decoded in steps");
        var found = Texts(loaded.Model);
        CpuKernel.Enabled = false;
        try
        {
            Assert.That(found, Is.EqualTo(Texts(loaded.Model)));
        }
        finally
        {
            CpuKernel.Enabled = true;
        }
    }

    private static PeftAdapter Adapt(CausalLanguageModel model)
    {
        var adapter = PeftAdapter.Create(model, new LoraConfig { Rank = 3 }, seed: 1);
        using var nothing = no_grad();
        _ = manual_seed(2);
        adapter.Layers.ToList().ForEach(static l => l.B.normal_(0, 0.1));
        return adapter;
    }

    // As wide as the blocks of NF4 are long.
    private static string Written(TemporaryFolder folder)
    {
        var shape = new ModelShape { HiddenSize = 64, IntermediateSize = 192, Layers = 2, Heads = 4, KeyValueHeads = 2, VocabularySize = 96, MaxPositions = 64, TiedEmbeddings = false };
        NewModel.Write("llama", shape, 5, ScalarType.Float32, folder.At("model"), addTokenizer: null);
        return folder.At("model");
    }

    private static List<int[]> Texts(CausalLanguageModel model) =>
        [.. new TextGenerator(model, new GenerationOptions { MaxNewTokens = 24 }).Continue([[1, 5, 9, 4], [7, 2]]).Select(static r => r.OutputIds.ToArray())];
}
