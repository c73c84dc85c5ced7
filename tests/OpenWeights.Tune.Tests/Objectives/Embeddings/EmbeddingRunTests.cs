using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Export.Gguf;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives.Embeddings;
using OpenWeights.Tune.Training;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Objectives.Embeddings;

/// <summary>Whole runs of embedding models, from a YAML file to what sentence-transformers reads.</summary>
public sealed class EmbeddingRunTests
{
    private static readonly int[][] s_texts = [[3, 14, 15, 92, 65, 2], [35, 89, 79], [7], [41, 42, 43, 44]];

    [TestCase("last", "causal")]
    [TestCase("mean", "bidirectional")]
    public void A_model_trained_in_full_is_a_folder_that_sentence_transformers_reads(string pooling, string attention)
    {
        using var folder = new TemporaryFolder();
        var vectors = Trained(folder, "", $"type: embedding, pooling: {pooling}, attention: {attention}, query_prompt: 'query: '");
        JsonNode Read(params string[] path) => JsonNode.Parse(File.ReadAllText(folder.At(["out", "model", .. path])))!;
        Assert.That(Read("modules.json").AsArray().Select(static m => $"{m!["path"]} {m["type"]}"), Is.EqualTo(new[]
        {
            " sentence_transformers.models.Transformer", "1_Pooling sentence_transformers.models.Pooling", "2_Normalize sentence_transformers.models.Normalize",
        }));
        var settings = Read("1_Pooling", "config.json");
        Assert.That(settings["word_embedding_dimension"]!.GetValue<int>(), Is.EqualTo(32));
        Assert.That(settings["pooling_mode_lasttoken"]!.GetValue<bool>(), Is.EqualTo(pooling == "last"));
        Assert.That(settings["pooling_mode_mean_tokens"]!.GetValue<bool>(), Is.EqualTo(pooling == "mean"));
        Assert.That(Read("sentence_bert_config.json")["max_seq_length"]!.GetValue<int>(), Is.EqualTo(64));
        Assert.That(Read("config_sentence_transformers.json")["prompts"]!["query"]!.ToString(), Is.EqualTo("query: "));
        Assert.That(Read("config.json")["is_causal"]?.GetValue<bool>(), attention == "causal" ? Is.Null : Is.False);
        Assert.That(Directory.Exists(folder.At("out", "model", "2_Normalize")));

        using var loaded = ModelLoader.Load(folder.At("out", "model"), float32, TestDevice.Current);
        Assert.That(Embed(loaded), Is.EqualTo(vectors).Within(1e-6f));
        if (attention == "bidirectional")
        {
            Assert.That(() => new TextGenerator(loaded.Model, new GenerationOptions { MaxNewTokens = 1 }), Throws.TypeOf<InvalidDataException>().With.Message.Contains("is_causal"));
        }
    }

    [Test]
    public void An_adapter_has_the_names_of_a_model_without_head_and_merges_into_a_whole_folder()
    {
        using var folder = new TemporaryFolder();
        var vectors = Trained(folder, "adapter: { r: 4, lora_alpha: 8 }", "type: embedding, pooling: mean, attention: bidirectional");
        Assert.That(AdapterFolder.Open(folder.At("out", "adapter")).Config["task_type"]!.ToString(), Is.EqualTo("FEATURE_EXTRACTION"));
        using (var weights = SafetensorsFile.Open(folder.At("out", "adapter", "adapter_model.safetensors")))
        {
            Assert.That(weights.TryGetTensor("base_model.model.layers.0.self_attn.q_proj.lora_A.weight", out _), "as PEFT names it on AutoModel");
        }

        using var loaded = ModelLoader.Load(folder.At("model"), float32, TestDevice.Current);
        loaded.Embedding = EmbeddingFiles.Of(folder.At("out", "adapter"));
        using var adapter = PeftFolder.Load(loaded.Model, folder.At("out"));
        Assert.That(Embed(loaded), Is.EqualTo(vectors).Within(1e-6f));
        _ = MergedExport.Write(loaded, adapter, folder.At("merged"), null, 5L << 30);
        using var merged = ModelLoader.Load(folder.At("merged"), float32, TestDevice.Current);
        Assert.That(merged.Embedding, Is.EqualTo(loaded.Embedding));
        Assert.That(Embed(merged), Is.EqualTo(vectors).Within(1e-5f));
    }

    [Test]
    public void A_GGUF_file_says_how_vectors_are_made()
    {
        using var folder = new TemporaryFolder();
        _ = Trained(folder, "", "type: embedding, pooling: mean, attention: bidirectional");
        _ = GgufExport.Write(ModelFolder.Open(folder.At("out", "model")), null, folder.At("model.gguf"), GgufPreset.Of("f32"));
        using var file = GgufFile.Open(folder.At("model.gguf"));
        Assert.That(file.Metadata.Int("llama.pooling_type"), Is.EqualTo(1));
        Assert.That(file.Metadata.Flag("llama.attention.causal"), Is.False);
    }

    [Test]
    public void A_run_goes_on_from_an_adapter_with_its_pooling()
    {
        using var folder = new TemporaryFolder();
        _ = Trained(folder, "adapter: { r: 4, lora_alpha: 8 }", "type: embedding, pooling: mean");
        Directory.Move(folder.At("out"), folder.At("first"));
        Run(folder, $"adapter: {{ path: '{folder.At("first")}' }}", "type: embedding", "max_steps: 20, micro_batch_size: 8", "out");
        Assert.That(EmbeddingFiles.Of(folder.At("out", "adapter"))!.Pooling, Is.EqualTo(EmbeddingPooling.Mean));
        var lines = Metrics(folder, "out");
        Assert.That(lines[^1]["loss"]!.GetValue<double>(), Is.LessThan(0.5 * lines[0]["loss"]!.GetValue<double>()));
    }

    [Test]
    public void Micro_batches_give_the_numbers_of_one_batch_and_going_on_gives_the_bytes_of_a_run_that_was_not_stopped()
    {
        using var folder = new TemporaryFolder();
        Prepare(folder);
        const string Adapter = "adapter: { r: 4, lora_alpha: 8, lora_dropout: 0.1 }";
        Run(folder, Adapter, "type: embedding", "max_steps: 6, micro_batch_size: 8", "whole");
        Run(folder, Adapter, "type: embedding", "max_steps: 6, micro_batch_size: 2, gradient_accumulation_steps: 4", "straight");
        foreach (var (one, four) in Metrics(folder, "whole").Zip(Metrics(folder, "straight")))
        {
            Assert.That(four["loss"]!.GetValue<double>(), Is.EqualTo(one["loss"]!.GetValue<double>()).Within(1e-3).Percent);
            Assert.That(four["grad_norm"]!.GetValue<double>(), Is.EqualTo(one["grad_norm"]!.GetValue<double>()).Within(1e-2).Percent);
        }

        using var stop = new CancellationTokenSource();
        var config = Read(folder, Adapter, "type: embedding", "max_steps: 6, micro_batch_size: 2, gradient_accumulation_steps: 4", "stopped");
        var listener = new SilentListener
        {
            OnStep = s =>
            {
                if (s.Step == 3)
                {
                    stop.Cancel();
                }
            },
        };
        using (var stopped = TrainingRun.Prepare(config, listener, new RunOptions { IgnoreMemory = true }))
        {
            Assert.That(stopped.Run(overwrite: true, "test", stop.Token), Is.Null);
        }

        using (var resumed = TrainingRun.Prepare(config, new SilentListener(), new RunOptions { IgnoreMemory = true, Resume = true }))
        {
            Assert.That(resumed.Run(overwrite: false, "test", CancellationToken.None), Is.Not.Null);
        }

        Assert.That(File.ReadAllBytes(folder.At("stopped", "adapter", "adapter_model.safetensors")), Is.EqualTo(File.ReadAllBytes(folder.At("straight", "adapter", "adapter_model.safetensors"))));
    }

    [Test]
    public void Long_texts_are_cut_one_by_one_and_rows_of_another_kind_are_refused()
    {
        using var folder = new TemporaryFolder();
        Prepare(folder);
        var rows = folder.Write("rows.jsonl", """{"anchor_ids":[1,2,3,4,5,6,7,8,9,10],"positive_ids":[11,12],"negative_ids":[[21,22,23,24,25,26,27,28,29]]}""" + "\n");
        var draft = RunDraft.Read(Read(folder, "", "type: embedding", "max_steps: 1", "out", "max_length: 8, over_length: truncate"), new SilentListener(), new RunOptions { IgnoreMemory = true });
        Assert.That(draft.Data.Train.Rows[0].Documents, Is.EqualTo(new[] { 8, 2, 8 }));
        Assert.That(draft.Data.Train.Report.TruncatedTokens, Is.EqualTo(3));
        File.Copy(TinyModel.WriteRows(folder, 4, "plain.jsonl"), rows, overwrite: true);
        Assert.That(() => Run(folder, "", "type: embedding", "max_steps: 1", "out"), Throws.Exception.With.Message.Contains("anchor and a positive"));
    }

    private static float[][] Trained(TemporaryFolder folder, string adapter, string objective)
    {
        Prepare(folder);
        using var run = TrainingRun.Prepare(Read(folder, adapter, objective, "max_steps: 3, micro_batch_size: 4", "out"), new SilentListener(), new RunOptions { IgnoreMemory = true });
        _ = run.Run(overwrite: true, "test", CancellationToken.None);
        return [.. new TextEmbedder(run.Model, new EmbeddingSettings { Pooling = objective.Contains("mean", StringComparison.Ordinal) ? EmbeddingPooling.Mean : EmbeddingPooling.Last }, new RowTokenizer(folder.At("model"), "all")).Embed(s_texts)];
    }

    private static float[][] Embed(LoadedModel loaded) => [.. new TextEmbedder(loaded.Model, loaded.Embedding!, new RowTokenizer(loaded.Folder.FolderPath, "all"), batchSize: 3).Embed(s_texts)];

    // Positives have the anchor's first token, moved by one.
    private static void Prepare(TemporaryFolder folder)
    {
        _ = TinyModel.Write(folder, tied: false);
        var random = new Random(4);
        string Text(int first) => $"[{first},{string.Join(',', Enumerable.Range(0, random.Next(1, 5)).Select(_ => 60 + random.Next(30)))}]";
        _ = folder.Write("rows.jsonl", string.Join('\n', Enumerable.Range(0, 24).Select(i => $$"""{"anchor_ids":{{Text(2 * i)}},"positive_ids":{{Text((2 * i) + 1)}}{{(i % 3 == 0 ? $",\"negative_ids\":[{Text(59)}]" : "")}}}""")) + "\n");
    }

    private static void Run(TemporaryFolder folder, string adapter, string objective, string training, string output)
    {
        using var run = TrainingRun.Prepare(Read(folder, adapter, objective, training, output), new SilentListener(), new RunOptions { IgnoreMemory = true });
        _ = run.Run(overwrite: true, "test", CancellationToken.None);
    }

    private static RunConfig Read(TemporaryFolder folder, string adapter, string objective, string training, string output, string length = "max_length: 64") => RunConfigFile.Read(
        folder.Write("train.yaml", $$"""
            output_dir: '{{folder.At(output)}}'
            model: { path: '{{folder.At("model")}}', dtype: float32, device: '{{TestDevice.Name}}' }
            {{adapter}}
            data: { train: rows.jsonl, {{length}} }
            objective: { {{objective}} }
            training: { {{training}}, learning_rate: 1.0e-2, lr_scheduler: constant, warmup_steps: 0 }
            """), []);

    private static List<JsonObject> Metrics(TemporaryFolder folder, string run) =>
        [.. File.ReadAllLines(folder.At(run, "metrics.jsonl")).Select(static l => JsonNode.Parse(l)!.AsObject()).Where(static l => l["loss"] is not null)];
}
