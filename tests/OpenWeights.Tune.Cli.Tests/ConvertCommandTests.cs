using NUnit.Framework;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>owt convert, and what train and validate say of another program's file.</summary>
public sealed class ConvertCommandTests
{
    [Test]
    public void Another_programs_file_is_told_once_converted_and_then_valid()
    {
        using var work = new Workspace();
        work.Write("axolotl.yml", "base_model: model\ndatasets:\n  - path: rows.jsonl\n    type: completion\nsequence_len: 256\nadapter: lora\nlora_r: 4\nlora_alpha: 8\nlora_target_linear: true\nmicro_batch_size: 2\nnum_epochs: 1\nlearning_rate: 0.001\noutput_dir: run\nflash_attention: true\nbf16: false\n");
        foreach (var command in new[] { "validate", "train" })
        {
            var told = Owt.Run(work.Root, 1, command, "axolotl.yml").Error;
            Assert.That(told.Split('\n', StringSplitOptions.RemoveEmptyEntries), Has.Length.EqualTo(1));
            Assert.That(told, Does.Contain("a config of Axolotl").And.Contains("owt convert axolotl.yml"));
        }

        var convert = Owt.Run(work.Root, 0, "convert", "axolotl.yml", "--output", "mine.yaml");
        Assert.That(convert.Error, Does.Contain("flash_attention: attention never stores the score matrix"));
        Assert.That(File.ReadAllText(work.At("mine.yaml")), Does.Contain("r: 4").And.Contains("# Not converted:"));
        Owt.Run(work.Root, 0, "validate", "mine.yaml", "data.train.0.format=tokenized");
        Assert.That(Owt.Run(work.Root, 1, "convert", "axolotl.yml", "--output", "mine.yaml").Error, Does.Contain("already exists"));
        Assert.That(Owt.Run(work.Root, 0, "convert", "axolotl.yml").Output, Does.Contain("micro_batch_size: 2"));
        Assert.That(Owt.Run(work.Root, 1, "convert", "train.yaml").Error, Does.Contain("already a config of this program"));
    }
}
