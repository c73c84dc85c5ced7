namespace OpenWeights.Tune.Cli.Tests;

/// <summary>A folder with a small model, rows and a config, all made by the program, with a space in its name.</summary>
internal sealed class Workspace : IDisposable
{
    internal const int Vocabulary = 300;

    internal Workspace(string training = "max_steps: 12, micro_batch_size: 2, warmup_steps: 2, learning_rate: 1.0e-2", int rows = 30, string dropout = "0.1")
    {
        var random = new Random(5);
        string Row() => $"{{\"input_ids\": [{string.Join(", ", Enumerable.Range(0, random.Next(5, 15)).Select(_ => random.Next(Vocabulary)))}]}}";
        Write("rows.jsonl", string.Join('\n', Enumerable.Range(0, rows).Select(_ => Row())));
        Write("train.yaml", $$"""
            seed: 3
            output_dir: run
            model: { path: model, device: cpu }
            adapter: { r: 4, lora_alpha: 8, lora_dropout: {{dropout}} }
            data: { train: [ { path: rows.jsonl } ], packing: false }
            training: { {{training}} }
            checkpoint: { every_steps: 4, keep: 2 }
            """);
        Owt.Run(Root, 0, "init", "--hidden-size", "32", "--intermediate-size", "48", "--vocab-size", $"{Vocabulary}", "--output", "model");
    }

    internal string Root { get; } = Directory.CreateTempSubdirectory("owt cli tests ").FullName;

    internal string At(params string[] parts) => Path.Combine([Root, .. parts]);

    internal string Write(string name, string text)
    {
        File.WriteAllText(At(name), text);
        return At(name);
    }

    public void Dispose() => Directory.Delete(Root, recursive: true);
}
