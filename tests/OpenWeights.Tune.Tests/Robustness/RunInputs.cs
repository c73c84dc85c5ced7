using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Formats;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Training;
using OpenWeights.Tune.Training.Checkpoints;
using OpenWeights.Tune.Training.Recording;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Robustness;

/// <summary>Configs of a run: those that come with the program, with pieces of YAML put in.</summary>
internal sealed class YamlInputs : FuzzedReader
{
    private static readonly string[] s_words =
    [
        ": ", "- ", "\n", "\n  ", "\n    ", "{", "}", "[", "]", ", ", "\"", "'", "#", "|", ">", "&a ", "*a", "<<: *a", "!!int ", "!!binary ", "! ", "? ", "---\n", "...\n", "%YAML 1.2\n", "\t", "~", "null", "true", "yes", "1e999", "-1", ".inf", ".nan",
        "99999999999999999999", "0x7fffffff", "${HOME}", "${", "../../x", "/etc/hostname", "hub://a/b", "model", "data", "training", "train", "path", "type", "lora", "[[", "{a: ", "\u0085", "\u2028", "\0", "😀", "@", "`",
    ];

    private readonly string[] _seeds = [.. Directory.EnumerateFiles(Path.Combine(SharedFiles.Root, "configs"), "*.yaml").Order(StringComparer.Ordinal).Select(File.ReadAllText)];

    public override string Name => "yaml";

    // Each problem of a config is a sentence of its own.
    public override long Constant => 64 << 20;

    public override byte[] Make(Mutation random) => random.Utf8(random.Text(random.Of(_seeds), s_words, 8));

    public override void Read(byte[] input, string folder)
    {
        var path = Path.Combine(folder, "train.yaml");
        File.WriteAllBytes(path, input);
        _ = RunConfigFile.Read(path, []);
    }

    public override bool IsDocumented(Exception error) => error is ConfigException;
}

/// <summary>Rows as JSON lines.</summary>
internal sealed class JsonRowsInputs : FuzzedReader
{
    private static readonly string[] s_rows =
    [
        """{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}""", """{"prompt": "a", "completion": "b"}""", """{"prompt": [{"role": "user", "content": "a"}], "chosen": [], "rejected": [{"role": "assistant", "content": null}]}""",
        """{"text": "abc"}""", """{"input_ids": [1, 2], "labels": [-100, 2]}""", """{"instruction": "a", "input": "", "output": "b"}""", """{"conversations": [{"from": "human", "value": "a"}]}""",
    ];

    public override string Name => "jsonl";

    public override byte[] Make(Mutation random) => random.Utf8(string.Join(random.OneIn(9) ? ",\n" : "\n", Enumerable.Range(0, 1 + random.Next(3)).Select(_ => JsonMutation.Change(random, random.Of(s_rows)))));

    public override void Read(byte[] input, string folder)
    {
        var path = Path.Combine(folder, "rows.jsonl");
        File.WriteAllBytes(path, input);
        foreach (var row in DataFile.Read(path))
        {
            _ = row.ToString();
        }
    }
}

/// <summary>Rows as CSV and TSV.</summary>
internal sealed class TableInputs : FuzzedReader
{
    private static readonly string[] s_words = [",", "\"", "\"\"", "\n", "\r\n", "\r", ";", "\t", "prompt", "\"a\nb\"", " ", "é", "\0", "\ufeff", "=1+1", "\"unclosed", "'"];

    public override string Name => "csv";

    public override byte[] Make(Mutation random) => random.Utf8(random.Text("prompt,completion,x\na,\"b, \"\"c\"\"\",1\n\"d\ne\",f,\n", s_words, 3));

    public override void Read(byte[] input, string folder)
    {
        foreach (var name in (string[])["rows.csv", "rows.tsv"])
        {
            var path = Path.Combine(folder, name);
            File.WriteAllBytes(path, input);
            foreach (var row in DataFile.Read(path))
            {
                _ = row.ToString();
            }
        }
    }
}

/// <summary>config.json, the index of shards and the pointer to a GGUF file of a model folder, one of them changed.</summary>
internal sealed class ModelFolderInputs : FuzzedReader
{
    private static readonly (string Name, string Good)[] s_files =
    [
        ("config.json", """{"architectures": ["LlamaForCausalLM"], "auto_map": {"AutoModel": "x.py--M"}, "model_type": "llama", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 6, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32}, "max_position_embeddings": 64, "tie_word_embeddings": true, "hidden_act": "silu", "eos_token_id": [1, 2]}"""),
        ("config.json", """{"model_type": "llama", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 6, "quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, "group_size": 8, "symmetric": true, "strategy": "group", "type": "int", "block_structure": [1, 2]}}}}}"""),
        ("config.json", """{"model_type": "llama", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 6, "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 8, "desc_act": false, "sym": true}}"""),
        ("model.safetensors.index.json", """{"metadata": {"total_size": 40}, "weight_map": {"a.weight": "a.safetensors", "b": "a.safetensors", "c": "b.safetensors"}}"""),
        ("gguf.json", """{"file": "/dev/zero"}"""),
        ("generation_config.json", """{"eos_token_id": [1, 2], "temperature": 0.7}"""),
    ];

    public override string Name => "model-folder";

    public override int Usual => 300;

    public override byte[] Make(Mutation random)
    {
        var (name, good) = random.Of(s_files);
        return [.. Encoding.UTF8.GetBytes(name), 0, .. random.Utf8(JsonMutation.Change(random, good))];
    }

    public override void Read(byte[] input, string folder)
    {
        foreach (var (name, good) in s_files.Reverse().Where(static f => f.Name != "gguf.json"))
        {
            File.WriteAllText(Path.Combine(folder, name), good);
        }

        File.WriteAllBytes(Path.Combine(folder, "a.safetensors"), SafetensorsInputs.File("""{"a.weight": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}, "b": {"dtype": "U8", "shape": [1], "data_offsets": [2, 3]}}"""u8.ToArray(), 3));
        File.WriteAllBytes(Path.Combine(folder, "b.safetensors"), SafetensorsInputs.File("""{"c": {"dtype": "U8", "shape": [], "data_offsets": [0, 1]}}"""u8.ToArray(), 1));
        var at = Array.IndexOf(input, (byte)0);
        var changed = Encoding.UTF8.GetString(input, 0, at);
        File.WriteAllBytes(Path.Combine(folder, changed), input[(at + 1)..]);
        if (changed == "gguf.json")
        {
            File.Delete(Path.Combine(folder, "model.safetensors.index.json"));
        }

        var model = ModelFolder.Open(folder);
        _ = ModelLoader.ReadConfig(model);
        using var weights = model.OpenWeights();
    }

    // Shards that an index names are missing here.
    public override bool IsDocumented(Exception error) => error is InvalidDataException or FileNotFoundException;
}

/// <summary>PEFT folders: adapter_config.json, or the tensors' header, changed; loaded onto a model.</summary>
internal sealed class AdapterInputs : FuzzedReader
{
    private static readonly string[] s_configs =
    [
        """{"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "x", "r": 2, "lora_alpha": 4, "lora_dropout": 0.0, "target_modules": ["q_proj"], "bias": "none", "use_rslora": false, "use_dora": false, "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": null, "layers_to_transform": [0, 1], "layers_pattern": "layers", "fan_in_fan_out": false, "init_lora_weights": true, "trainable_token_indices": null, "exclude_modules": null}""",
        """{"peft_type": "IA3", "task_type": "CAUSAL_LM", "target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"], "init_ia3_weights": true}""",
        """{"peft_type": "OFT", "target_modules": "q_proj", "r": 2, "oft_block_size": 0, "module_dropout": 0.0, "coft": false, "eps": 6e-05, "block_share": false, "use_cayley_neumann": true, "num_cayley_neumann_terms": 5}""",
        """{"peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": 3, "token_dim": 32, "num_transformer_submodules": 1, "num_attention_heads": 4, "num_layers": 2, "prompt_tuning_init": "RANDOM"}""",
        """{"peft_type": "ADALORA", "target_modules": ["q_proj"], "r": 2, "init_r": 4, "target_r": 2, "lora_alpha": 4, "tinit": 1, "tfinal": 1, "deltaT": 1, "total_step": 9, "rank_pattern": null}""",
    ];

    private const string Header = """{"__metadata__": {"format": "pt"}, "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": {"dtype": "F32", "shape": [2, 32], "data_offsets": [0, 256]}, "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight": {"dtype": "F32", "shape": [32, 2], "data_offsets": [256, 512]}, "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight": {"dtype": "F32", "shape": [2, 32], "data_offsets": [512, 768]}, "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight": {"dtype": "F32", "shape": [32, 2], "data_offsets": [768, 1024]}}""";

    private readonly TemporaryFolder _folder = new();
    private readonly LoadedModel _model;

    public AdapterInputs() => _model = ModelLoader.Load(TinyModel.Write(_folder), float32, TestDevice.Current);

    public override string Name => "adapter";

    public override int Usual => 300;

    public override byte[] Make(Mutation random)
    {
        var isConfig = !random.OneIn(4);
        var config = isConfig ? JsonMutation.Change(random, random.OneIn(2) ? s_configs[0] : random.Of(s_configs)) : s_configs[0];
        var header = isConfig ? Header : JsonMutation.Change(random, Header);
        byte[] text = random.Utf8(config);
        return [.. BitConverter.GetBytes(text.Length), .. text, .. SafetensorsInputs.File(Encoding.UTF8.GetBytes(header), 1024)];
    }

    public override void Read(byte[] input, string folder)
    {
        var length = BitConverter.ToInt32(input);
        File.WriteAllBytes(Path.Combine(folder, AdapterFolder.ConfigName), input[4..(4 + length)]);
        File.WriteAllBytes(Path.Combine(folder, AdapterFolder.WeightsName), input[(4 + length)..]);
        using var adapter = PeftFolder.Load(_model.Model, folder, static _ => { });
    }

    public override void Dispose()
    {
        _model.Dispose();
        _folder.Dispose();
        base.Dispose();
    }
}

/// <summary>Checkpoints and manifests of a run: the list of checksums, the trainer's state or the manifest changed.</summary>
internal sealed class CheckpointInputs : FuzzedReader
{
    private static readonly string s_state = JsonSerializer.Serialize(new TrainerState { Step = 3, TotalSteps = 9, Updates = 3, RecentLosses = [1, 2.5], BestLoss = 1.5, Objective = new JsonObject { ["a"] = 1 } });

    private static readonly (string Name, string Good)[] s_files =
    [
        ("state.json", s_state),
        ("checksums.json", """{"state.json": "00", "../outside": "00", "weights/adapter_model.safetensors": "aa"}"""),
        (RunManifest.Name, """{"finished": "2025-01-01T00:00:00+00:00", "result": {"folder": "checkpoints", "step": 3, "last_step": 3, "best_step": null, "best_eval_loss": 1.5}}"""),
    ];

    public override string Name => "checkpoint";

    public override int Usual => 300;

    public override byte[] Make(Mutation random)
    {
        var (name, good) = random.Of(s_files);
        return [.. Encoding.UTF8.GetBytes(name), 0, .. random.Utf8(JsonMutation.Change(random, good))];
    }

    public override void Read(byte[] input, string folder)
    {
        var checkpoints = Path.Combine(folder, "checkpoints");
        var step = Directory.CreateDirectory(Path.Combine(checkpoints, "step-00000003")).FullName;
        foreach (var (name, good) in s_files)
        {
            File.WriteAllText(Path.Combine(name == RunManifest.Name ? folder : step, name), good);
        }

        var at = Array.IndexOf(input, (byte)0);
        var changed = Encoding.UTF8.GetString(input, 0, at);
        File.WriteAllBytes(Path.Combine(changed == RunManifest.Name ? folder : step, changed), input[(at + 1)..]);
        _ = new CheckpointStore(checkpoints).Newest(static _ => { });
        _ = RunManifest.Result(folder);
        _ = RunCheckpoint.ReadState(step);
    }
}

/// <summary>The metrics of an earlier part of a run, from which the lines and TensorBoard's events are written again on resuming.</summary>
internal sealed class MetricsInputs : FuzzedReader
{
    private static readonly string[] s_lines =
    [
        """{"step": 1, "loss": 2.5, "learning_rate": 0.001, "grad_norm": null, "tokens_per_second": 100}""", """{"step": 2, "loss": 2.25, "eval_loss": 1.5, "rewards/margin": 0.5, "skipped": false}""", """{"step": 3, "when": "before training", "eval_bleu": 0.25}""",
    ];

    public override string Name => "events";

    public override bool TakesAll => true;

    public override byte[] Make(Mutation random) => random.Utf8(string.Concat(s_lines.Select(line => (random.OneIn(2) ? line : JsonMutation.Change(random, line)) + "\n")));

    public override void Read(byte[] input, string folder)
    {
        var path = Path.Combine(folder, "metrics.jsonl");
        File.WriteAllBytes(path, input);
        using var lines = new LinesFile(path, 3);
        using var events = new EventFile(folder, lines.Read());
    }
}
