using System.Buffers.Binary;
using System.Text;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.Safetensors;

namespace OpenWeights.Tune.Tests.Robustness;

/// <summary>Safetensors files: the header's JSON changed by its structure, its length, and the bytes.</summary>
internal sealed class SafetensorsInputs : FuzzedReader
{
    private const string Header = """{"__metadata__": {"format": "pt", "a": "b"}, "a.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]}, "c": {"dtype": "I8", "shape": [], "data_offsets": [32, 33]}, "d": {"dtype": "F8_E4M3", "shape": [3, 0], "data_offsets": [33, 33]}, "e": {"dtype": "U8", "shape": [1, 1, 7], "data_offsets": [33, 40]}}""";

    public override string Name => "safetensors";

    public override byte[] Make(Mutation random)
    {
        var header = random.OneIn(4) ? Header : JsonMutation.Change(random, Header);
        var bytes = File(random.Utf8(header), random.OneIn(6) ? random.Next(80) : 40, random.OneIn(12) ? random.Extreme() : null);
        return header == Header || random.OneIn(10) ? random.Bytes(bytes) : bytes;
    }

    public static byte[] File(byte[] header, int data, ulong? length = null)
    {
        var bytes = new byte[8 + header.Length + data];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, length ?? (ulong)header.Length);
        header.CopyTo(bytes, 8);
        return bytes;
    }

    public override void Read(byte[] input, string folder)
    {
        var path = Path.Combine(folder, "model.safetensors");
        System.IO.File.WriteAllBytes(path, input);
        using var file = SafetensorsFile.Open(path);
        foreach (var tensor in file.Tensors)
        {
            file.CopyTo(tensor.Name, 0, new byte[tensor.ByteLength]);
        }
    }
}

/// <summary>GGUF files as a list of fields, of which some are changed, repeated or left out; read with the model's settings and the tokenizer.</summary>
internal sealed class GgufInputs : FuzzedReader
{
    private static readonly List<byte[]> s_fields = Fields();

    public override string Name => "gguf";

    public override int Usual => 300;

    /// <summary>A good file.</summary>
    public static byte[] Good => [.. s_fields.SelectMany(static f => f)];

    public override byte[] Make(Mutation random)
    {
        var fields = s_fields.ToList();
        for (var i = random.Next(4); i > 0; i--)
        {
            var at = random.Next(fields.Count);
            switch (random.Next(7))
            {
                case 0:
                    fields.RemoveAt(at);
                    break;
                case 1:
                    fields.Insert(random.Next(fields.Count), fields[at]);
                    break;
                case 2:
                    fields[at] = random.Of(s_fields);
                    break;
                case 3 when fields[at].Length > 0:
                    fields[at] = random.Bytes(fields[at]);
                    break;
                default:
                    if (fields[at].Length is 4 or 8)
                    {
                        fields[at] = BitConverter.GetBytes(random.OneIn(2) ? random.Extreme() : (ulong)random.Next(14))[..fields[at].Length];
                    }

                    break;
            }
        }

        byte[] bytes = [.. fields.SelectMany(static f => f)];
        return random.OneIn(3) ? random.Bytes(bytes) : bytes;
    }

    public override void Read(byte[] input, string folder)
    {
        var path = Path.Combine(folder, "model.gguf");
        File.WriteAllBytes(path, input);
        using (var file = GgufFile.Open(path))
        {
            foreach (var tensor in file.Tensors)
            {
                file.ReadBytes(tensor, 0, new byte[tensor.ByteLength]);
                file.ReadRows(tensor, 0, new float[tensor.RowLength]);
            }
        }

        var unpacked = Directory.CreateDirectory(Path.Combine(folder, "unpacked")).FullName;
        GgufFolder.Unpack(path, unpacked);
        if (Tokenizers.Tokenizer.IsIn(unpacked))
        {
            _ = Tokenizers.Tokenizer.Load(unpacked).Encode("ab a", addSpecialTokens: true);
        }

        using var weights = Formats.HuggingFace.ModelFolder.Open(unpacked).OpenWeights();
        foreach (var tensor in weights.Tensors)
        {
            weights.CopyTo(tensor.Name, 0, new byte[tensor.ByteLength]);
        }
    }

    public override bool IsDocumented(Exception error) => error is InvalidDataException or FileNotFoundException;

    private static List<byte[]> Fields()
    {
        var fields = new List<byte[]>();
        void Raw(params byte[] bytes) => fields.Add(bytes);
        void U32(uint value) => Raw(BitConverter.GetBytes(value));
        void U64(ulong value) => Raw(BitConverter.GetBytes(value));
        void Text(string text)
        {
            U64((ulong)Encoding.UTF8.GetByteCount(text));
            Raw(Encoding.UTF8.GetBytes(text));
        }

        void Key(string key, uint type)
        {
            Text(key);
            U32(type);
        }

        void Number(string key, uint value)
        {
            Key(key, 4);
            U32(value);
        }

        void Words(string key, params string[] words)
        {
            Key(key, 9);
            U32(8);
            U64((ulong)words.Length);
            Array.ForEach(words, Text);
        }

        (string Name, ulong[] Sizes)[] tensors =
        [
            ("token_embd.weight", [8, 6]), ("output_norm.weight", [8]), ("blk.0.attn_norm.weight", [8]), ("blk.0.ffn_norm.weight", [8]), ("blk.0.attn_q.weight", [8, 8]), ("blk.0.attn_k.weight", [8, 4]),
            ("blk.0.attn_v.weight", [8, 4]), ("blk.0.attn_output.weight", [8, 8]), ("blk.0.ffn_gate.weight", [8, 8]), ("blk.0.ffn_up.weight", [8, 8]), ("blk.0.ffn_down.weight", [8, 8]),
        ];
        Raw("GGUF"u8.ToArray());
        U32(3);
        U64((ulong)tensors.Length);
        var count = fields.Count;
        U64(0);
        var keys = 0UL;
        void Done() => keys++;
        Key("general.architecture", 8);
        Text("llama");
        Done();
        foreach (var (name, value) in new[] { ("context_length", 64u), ("embedding_length", 8u), ("block_count", 1u), ("feed_forward_length", 8u), ("attention.head_count", 2u), ("attention.head_count_kv", 1u), ("rope.dimension_count", 4u), ("vocab_size", 6u) })
        {
            Number("llama." + name, value);
            Done();
        }

        Key("llama.attention.layer_norm_rms_epsilon", 6);
        Raw(BitConverter.GetBytes(1e-5f));
        Done();
        Key("tokenizer.ggml.model", 8);
        Text("gpt2");
        Done();
        Key("tokenizer.ggml.pre", 8);
        Text("qwen2");
        Done();
        Words("tokenizer.ggml.tokens", "a", "b", "ab", "Ġ", "<s>", "</s>");
        Done();
        Words("tokenizer.ggml.merges", "a b");
        Done();
        Key("tokenizer.ggml.token_type", 9);
        U32(5);
        U64(6);
        foreach (var type in (uint[])[1, 1, 1, 1, 3, 3])
        {
            U32(type);
        }

        Done();
        Number("tokenizer.ggml.bos_token_id", 4);
        Done();
        Number("tokenizer.ggml.eos_token_id", 5);
        Done();
        Key("tokenizer.ggml.add_bos_token", 7);
        Raw(1);
        Done();
        Key("tokenizer.chat_template", 8);
        Text("{% for m in messages %}{{ m.content }}{% endfor %}");
        Done();
        fields[count] = BitConverter.GetBytes(keys);
        var offset = 0UL;
        foreach (var (name, sizes) in tensors)
        {
            Text(name);
            U32((uint)sizes.Length);
            Array.ForEach(sizes, U64);
            U32(0);
            U64(offset);
            offset += (((sizes.Aggregate(1UL, static (all, size) => all * size) * 4) + 31) / 32) * 32;
        }

        Raw(new byte[(32 - (fields.Sum(static f => f.Length) % 32)) % 32]);
        Raw(new byte[offset]);
        return fields;
    }
}
