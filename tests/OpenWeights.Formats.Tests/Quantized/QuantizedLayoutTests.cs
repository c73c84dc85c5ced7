using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Quantized;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;

namespace OpenWeights.Formats.Tests.Quantized;

/// <summary>Layouts and bits beyond the reference's cases, packed by the tests on their own; and what is said of damaged files.</summary>
public sealed class QuantizedLayoutTests
{
    private const string Weight = "model.layers.0.self_attn.q_proj.weight";
    private const string Module = "model.layers.0.self_attn.q_proj";

    [TestCase("""{"quant_method": "bitsandbytes", "load_in_4bit": true}""", "bitsandbytes")]
    [TestCase("""{"quant_method": "gptq", "bits": 4, "group_size": 128}""", "gptq")]
    [TestCase("""{"quant_method": "awq", "bits": 4, "group_size": 128}""", "awq")]
    [TestCase("""{"quant_method": "fp8"}""", "fp8")]
    public void A_config_that_names_a_method_beside_weights_in_full_is_refused(string quantization, string method)
    {
        using var work = new TemporaryFolder();
        var source = SharedFiles.Require("goldens", "reference", "llama");
        var config = JsonNode.Parse(File.ReadAllText(Path.Combine(source, "config.json")))!;
        config["quantization_config"] = JsonNode.Parse(quantization);
        _ = work.Write("config.json", config.ToJsonString());
        File.Copy(Path.Combine(source, "model.safetensors"), work.At("model.safetensors"));
        Assert.That(
            () => ModelFolder.Open(work.Root).OpenWeights(),
            Throws.InstanceOf<InvalidDataException>().With.Message.Contains($"quantised ({method}").And.Message.Contains("no weight in the files is packed so"));
    }

    [TestCase(2, false)]
    [TestCase(3, false)]
    [TestCase(3, true)]
    [TestCase(4, true)]
    [TestCase(5, false)]
    [TestCase(8, true)]
    public void GPTQ_of_any_bits_is_unpacked_across_words(int bits, bool isShuffled)
    {
        var (outputs, inputs, group, random) = (32, 64, 32, new Random(bits));
        var groups = inputs / group;
        var codes = Enumerable.Range(0, outputs).Select(_ => Enumerable.Range(0, inputs).Select(_ => random.Next(1 << bits)).ToArray()).ToArray();
        var zeros = Enumerable.Range(0, groups).Select(_ => Enumerable.Range(0, outputs).Select(_ => random.Next(1 << bits)).ToArray()).ToArray();
        var scales = Enumerable.Range(0, groups * outputs).Select(_ => (float)(Half)(random.NextSingle() + 0.1f)).ToArray();
        var order = Enumerable.Range(0, inputs).Select(i => i / group).ToArray();
        if (isShuffled)
        {
            random.Shuffle(order);
        }

        // Words run along the inputs, one column of them for each output.
        var columns = codes.Select(own => OwnPackings.Stream(own, bits)).ToArray();
        var words = Enumerable.Range(0, columns[0].Length).SelectMany(word => columns.Select(column => column[word]));
        using var work = new TemporaryFolder();
        using var weights = OwnPackings.Write(
            work, new JsonObject { ["quant_method"] = "gptq", ["bits"] = bits, ["group_size"] = group, ["checkpoint_format"] = "gptq_v2" },
            ($"{Module}.qweight", DType.I32, [columns[0].Length, outputs], OwnPackings.Bytes(words)),
            ($"{Module}.qzeros", DType.I32, [groups, outputs * bits / 32], OwnPackings.Bytes(zeros.SelectMany(row => OwnPackings.Stream(row, bits)))),
            ($"{Module}.scales", DType.F16, [groups, outputs], OwnPackings.Halves(scales)),
            ($"{Module}.g_idx", DType.I32, [inputs], OwnPackings.Bytes(order.Select(static g => (uint)g)))).OpenWeights();
        var values = OwnPackings.Floats(weights, Weight);
        for (var output = 0; output < outputs; output++)
        {
            for (var input = 0; input < inputs; input++)
            {
                var g = order[input];
                Assert.That(values[(output * inputs) + input], Is.EqualTo((codes[output][input] - zeros[g][output]) * scales[(g * outputs) + output]), $"{output}, {input}");
            }
        }
    }

    [TestCase(true)]
    [TestCase(false)]
    public void AWQ_is_unpacked_with_zeros_and_without(bool hasZeros)
    {
        var (outputs, inputs, group, random) = (16, 48, 16, new Random(3));
        var groups = inputs / group;
        int[] places = [0, 2, 4, 6, 1, 3, 5, 7];
        var codes = Enumerable.Range(0, inputs).Select(_ => Enumerable.Range(0, outputs).Select(_ => random.Next(16)).ToArray()).ToArray();
        var zeros = Enumerable.Range(0, groups).Select(_ => Enumerable.Range(0, outputs).Select(_ => random.Next(16)).ToArray()).ToArray();
        var scales = Enumerable.Range(0, groups * outputs).Select(_ => (float)(Half)(random.NextSingle() + 0.1f)).ToArray();
        IEnumerable<uint> Words(int[] row) => row.Chunk(8).Select(eight => (uint)places.Select((column, place) => (long)eight[column] << (4 * place)).Sum());
        (string, DType, long[], byte[])[] tensors =
        [
            ($"{Module}.qweight", DType.I32, [inputs, outputs / 8], OwnPackings.Bytes(codes.SelectMany(Words))),
            ($"{Module}.scales", DType.F16, [groups, outputs], OwnPackings.Halves(scales)),
            ($"{Module}.qzeros", DType.I32, [groups, outputs / 8], OwnPackings.Bytes(zeros.SelectMany(Words))),
        ];
        using var work = new TemporaryFolder();
        using var weights = OwnPackings.Write(work, new JsonObject { ["quant_method"] = "awq", ["bits"] = 4, ["group_size"] = group, ["zero_point"] = hasZeros, ["version"] = "GEMM" }, hasZeros ? tensors : tensors[..2]).OpenWeights();
        var values = OwnPackings.Floats(weights, Weight);
        for (var i = 0; i < values.Length; i++)
        {
            var (output, input) = (i / inputs, i % inputs);
            var zero = hasZeros ? zeros[input / group][output] : 8;
            Assert.That(values[i], Is.EqualTo((codes[input][output] - zero) * scales[(input / group * outputs) + output]), $"{output}, {input}");
        }
    }

    [TestCase(3)]
    [TestCase(4)]
    [TestCase(8)]
    public void Compressed_integers_fill_words_as_far_as_whole_codes_fit(int bits)
    {
        var (outputs, inputs, perWord, random) = (5, 32, 32 / bits, new Random(bits));
        var codes = Enumerable.Range(0, outputs).Select(_ => Enumerable.Range(0, inputs).Select(_ => random.Next(1 << bits)).ToArray()).ToArray();
        var scales = Enumerable.Range(0, outputs).Select(_ => random.NextSingle()).ToArray();
        var words = codes.SelectMany(row => row.Chunk(perWord).Select(some => (uint)some.Select((code, place) => (long)code << (bits * place)).Sum()));
        using var work = new TemporaryFolder();
        using var weights = OwnPackings.Write(
            work,
            new JsonObject { ["quant_method"] = "compressed-tensors", ["format"] = "pack-quantized", ["config_groups"] = new JsonObject { ["group_0"] = new JsonObject { ["weights"] = new JsonObject { ["num_bits"] = bits, ["type"] = "int", ["strategy"] = "channel", ["symmetric"] = true } } } },
            ($"{Module}.weight_packed", DType.I32, [outputs, (inputs + perWord - 1) / perWord], OwnPackings.Bytes(words)),
            ($"{Module}.weight_scale", DType.F32, [outputs, 1], OwnPackings.Bytes(scales)),
            ($"{Module}.weight_shape", DType.I64, [2], OwnPackings.Bytes([(uint)outputs, 0u, (uint)inputs, 0u]))).OpenWeights();
        var values = OwnPackings.Floats(weights, Weight);
        Assert.That(values, Is.EqualTo(codes.SelectMany((row, output) => row.Select(code => (code - (1 << (bits - 1))) * scales[output]))));
    }

    [Test]
    public void Small_floats_are_rounded_to_the_nearest_and_ties_to_even()
    {
        foreach (var (levels, round, largest) in new (float[], Func<float, byte>, float)[] { (SmallFloats.E4M3, SmallFloats.ToE4M3, 448), (SmallFloats.E2M1, SmallFloats.ToE2M1, 6) })
        {
            var ordered = levels.Where(static l => l >= 0 && float.IsFinite(l)).Distinct().Order().ToArray();
            Assert.That(ordered[^1], Is.EqualTo(largest));
            for (var i = 0; i + 1 < ordered.Length; i++)
            {
                var middle = (ordered[i] + ordered[i + 1]) / 2;
                Assert.That(levels[round(MathF.BitDecrement(middle))], Is.EqualTo(ordered[i]), $"below {middle}");
                Assert.That(levels[round(MathF.BitIncrement(middle))], Is.EqualTo(ordered[i + 1]), $"above {middle}");
                Assert.That(levels[round(-middle)], Is.EqualTo(-ordered[i % 2 == 0 ? i : i + 1]), $"{middle}");
            }

            Assert.That(levels[round(1e30f)], Is.EqualTo(largest));
        }
    }

    [TestCaseSource(nameof(Parts))]
    public void A_missing_part_of_a_weight_is_told_by_its_name(string name, string part)
    {
        using var work = new TemporaryFolder();
        var folder = Copy(name, work, tensor => tensor.Name != part ? TensorToWrite.FromSource(tensor.Source, tensor.Name) : null);
        Assert.That(() => folder.OpenWeights(), Throws.TypeOf<InvalidDataException>().With.Message.Contains(part).And.Message.Contains("missing").Or.Message.Contains(part[..part.LastIndexOf('.')]));
    }

    [TestCaseSource(nameof(Parts))]
    public void A_part_of_another_shape_is_told_by_its_name(string name, string part)
    {
        using var work = new TemporaryFolder();
        var folder = Copy(name, work, tensor => tensor.Name != part ? TensorToWrite.FromSource(tensor.Source, tensor.Name)
            : new TensorToWrite(part, tensor.Entry.DType, [.. tensor.Entry.Shape.Append(3)], stream => stream.Write(new byte[3 * tensor.Entry.ByteLength])));
        Assert.That(() => folder.OpenWeights(), Throws.TypeOf<InvalidDataException>().With.Message.Contains(part).Or.Message.Contains(part[..part.LastIndexOf('.')]));
    }

    [TestCase("hqq")]
    [TestCase("something_new")]
    public void A_method_that_is_not_known_is_refused_by_its_name_with_what_to_do(string method)
    {
        using var work = new TemporaryFolder();
        var folder = OwnPackings.Write(work, new JsonObject { ["quant_method"] = method }, (Weight, DType.F32, [1, 1], new byte[4]));
        Assert.That(() => folder.OpenWeights(), Throws.TypeOf<InvalidDataException>().With.Message.Contains($"quantized by {method}").And.Message.Contains("use the original model"));
    }

    // The tensors of the first attention layer's query, or of the experts.
    private static IEnumerable<object[]> Parts()
    {
        foreach (var name in SharedFiles.FindNames("dequantised.safetensors", "goldens", "adapters2026").Select(static n => Path.GetDirectoryName(n)!))
        {
            using var file = SafetensorsFile.Open(Path.Combine(SharedFiles.Find("goldens", "adapters2026", name)!, "model.safetensors"));
            foreach (var tensor in file.Tensors.Where(static t => (t.Name.StartsWith($"{Module}.", StringComparison.Ordinal) || t.Name.Contains("experts.gate_up_proj_", StringComparison.Ordinal)) && t.DType is not (DType.F16 or DType.BF16) && !t.Name.EndsWith("input_scale", StringComparison.Ordinal) && !t.Name.EndsWith("weight_format", StringComparison.Ordinal) && !t.Name.EndsWith("g_idx", StringComparison.Ordinal)))
            {
                yield return [name, tensor.Name];
            }
        }
    }

    private static ModelFolder Copy(string name, TemporaryFolder work, Func<(string Name, TensorEntry Entry, ITensorSource Source), TensorToWrite?> change)
    {
        var folder = SharedFiles.Require("goldens", "adapters2026", name);
        File.Copy(Path.Combine(folder, "config.json"), work.At("config.json"));
        using var file = SafetensorsFile.Open(Path.Combine(folder, "model.safetensors"));
        SafetensorsWriter.Write(work.At("model.safetensors"), [.. file.Tensors.Select(entry => change((entry.Name, entry, file))).OfType<TensorToWrite>()]);
        return ModelFolder.Open(work.Root);
    }
}
