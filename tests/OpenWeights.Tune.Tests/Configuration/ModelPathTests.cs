using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Tests.Configuration;

/// <summary>What people give as a model.</summary>
public sealed class ModelPathTests
{
    [TestCase("Qwen/Qwen3-0.6B", true)]
    [TestCase("HuggingFaceTB/SmolLM2-135M-Instruct@main", true)]
    [TestCase("hub:runs/mine", true)]
    [TestCase("runs/mine", false)]
    [TestCase("models/tiny", false)]
    [TestCase("outputs/lora", false)]
    [TestCase("org/model.gguf", false)]
    [TestCase("./org/name", false)]
    [TestCase("../org/name", false)]
    [TestCase("/org/name", false)]
    [TestCase("a/b/c", false)]
    [TestCase("name", false)]
    public void What_looks_like_a_path_is_never_the_Hubs(string text, bool isOnHub) => Assert.That(ModelPath.IsOnHub(text), Is.EqualTo(isOnHub));

    [Test]
    public void A_name_whose_first_part_is_a_folder_here_is_a_path()
    {
        using var folder = new TemporaryFolder();
        _ = Directory.CreateDirectory(folder.At("my-things"));
        Assert.That(ModelPath.IsOnHub("my-things/tiny"), Is.True);
        Assert.That(ModelPath.IsOnHub("my-things/tiny", folder.Root), Is.False);
    }

    [Test]
    public void A_file_named_like_a_GGUF_file_that_is_none_and_a_link_to_nothing_are_told_as_what_they_are()
    {
        using var folder = new TemporaryFolder();
        Assert.That(() => ModelPath.Resolve(folder.Write("empty.gguf", "")), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("empty.gguf: this is no GGUF file"));
        _ = File.CreateSymbolicLink(folder.At("link.gguf"), "gone.gguf");
        foreach (var resolve in new Func<string, string>[] { static p => ModelPath.Resolve(p), static p => ModelPath.ResolveSettings(p), static p => ModelPath.ResolveTokenizer(p) })
        {
            Assert.That(() => resolve(folder.At("link.gguf")), Throws.InstanceOf<FileNotFoundException>().With.Message.Contains($"this link leads to {folder.At("gone.gguf")}"));
        }
    }

    [Test]
    public void A_path_that_is_not_there_is_told_at_once_with_the_nearest_name()
    {
        using var folder = new TemporaryFolder();
        _ = Directory.CreateDirectory(folder.At("tiny"));
        Assert.That(() => ModelPath.Resolve(folder.At("tiney")), Throws.InstanceOf<DirectoryNotFoundException>().With.Message.Contains($"Did you mean {folder.At("tiny")}?"));
        Assert.That(() => ModelPath.Resolve("runs/none-of-that-name"), Throws.InstanceOf<DirectoryNotFoundException>().With.Message.Contains("hub:runs/none-of-that-name"));
    }

    [Test]
    public void A_run_and_a_checkpoint_of_it_are_models()
    {
        using var folder = new TemporaryFolder();
        foreach (var place in new[] { "run/model", "run/checkpoints/step-00000003/weights", "run/checkpoints/step-00000020/weights" })
        {
            folder.Write($"{place}/config.json", "{}");
        }

        Assert.That(ModelPath.Resolve(folder.At("run")), Is.EqualTo(folder.At("run", "model")));
        Assert.That(ModelPath.Resolve(folder.At("run", "checkpoints", "step-00000003")), Is.EqualTo(folder.At("run", "checkpoints", "step-00000003", "weights")));
        Directory.Delete(folder.At("run", "model"), recursive: true);
        Assert.That(ModelPath.Resolve(folder.At("run")), Is.EqualTo(folder.At("run", "checkpoints", "step-00000020", "weights")), "the newest, where a run is not done");
    }

    [Test]
    public void A_run_that_trained_an_adapter_is_its_base_with_it()
    {
        using var folder = new TemporaryFolder();
        folder.Write("base/config.json", "{}");
        folder.Write("run/adapter/adapter_config.json", "{}");
        folder.Write("run/checkpoints/step-00000003/weights/adapter_config.json", "{}");
        folder.Write("run/config.yaml", ConfigWriter.Write(new RunConfig
        {
            OutputDir = folder.At("run"),
            Model = new ModelSection { Path = folder.At("base") },
            Data = new DataSection { Train = [new DataSource { Path = "rows.jsonl" }] },
        }));
        Assert.That(ModelPath.WithAdapter(folder.At("run")), Is.EqualTo((folder.At("base"), folder.At("run", "adapter"))));
        var checkpoint = folder.At("run", "checkpoints", "step-00000003");
        Assert.That(ModelPath.WithAdapter(checkpoint), Is.EqualTo((folder.At("base"), Path.Combine(checkpoint, "weights"))));
        Assert.That(ModelPath.WithAdapter(folder.At("base")), Is.EqualTo((folder.At("base"), (string?)null)));
        Assert.That(() => ModelPath.Resolve(folder.At("run")), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("a run that trained an adapter"));
    }
}
