using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;

namespace OpenWeights.Formats.Tests.HuggingFace;

public sealed class AdapterFolderTests
{
    private TemporaryFolder folder = null!;

    [SetUp]
    public void CreateFolder() => folder = new TemporaryFolder();

    [TearDown]
    public void RemoveFolder() => folder.Dispose();

    [TestCase("run", "run/adapter")]
    [TestCase("run/adapter", "run/adapter")]
    [TestCase("run/checkpoints/step-00000030", "run/checkpoints/step-00000030/weights")]
    [TestCase("half", "half/checkpoints/step-00000100/weights")]
    [TestCase("half/checkpoints", "half/checkpoints/step-00000100/weights")]
    public void A_run_and_a_checkpoint_are_adapters(string given, string found)
    {
        foreach (var place in new[] { "run/adapter", "run/checkpoints/step-00000030/weights", "half/checkpoints/step-00000030/weights", "half/checkpoints/step-00000100/weights" })
        {
            folder.Write($"{place}/{AdapterFolder.ConfigName}", "{}");
        }

        Assert.That(AdapterFolder.Open(folder.At(given)).FolderPath, Is.EqualTo(folder.At(found.Split('/'))));
        Assert.That(AdapterFolder.Find(folder.Folder("nothing")), Is.Null);
    }

    [Test]
    public void Every_adapter_that_PEFT_wrote_is_written_again_byte_for_byte()
    {
        var configs = SharedFiles.FindFiles(AdapterFolder.ConfigName, "goldens", "reference");
        Assert.That(configs, Has.Length.GreaterThanOrEqualTo(8));
        foreach (var source in configs.Select(path => Path.GetDirectoryName(path)!))
        {
            var adapter = AdapterFolder.Open(source);
            using (var weights = adapter.OpenWeights())
            {
                AdapterFolder.Write(folder["again"], adapter.Config,
                    [.. weights.Tensors.Select(tensor => TensorToWrite.FromSource(weights, tensor.Name))]);
            }

            foreach (var name in new[] { AdapterFolder.ConfigName, AdapterFolder.WeightsName })
            {
                Assert.That(File.ReadAllBytes(Path.Combine(folder["again"], name)),
                    Is.EqualTo(File.ReadAllBytes(Path.Combine(source, name))), $"{source}/{name}");
            }
        }

        TestContext.Out.WriteLine($"{configs.Length} adapters");
    }

    [Test]
    public void A_config_made_here_is_spelled_as_PEFT_spells_it()
    {
        var config = new JsonObject
        {
            ["r"] = 8,
            ["lora_dropout"] = 0.0,
            ["target_modules"] = new JsonArray("v_proj", "q_proj"),
            ["alpha_pattern"] = new JsonObject(),
            ["base_model_name_or_path"] = "größe",
            ["revision"] = null,
            ["init_lora_weights"] = true,
        };
        AdapterFolder.Write(folder["new"], config, []);

        Assert.That(File.ReadAllText(Path.Combine(folder["new"], AdapterFolder.ConfigName)), Is.EqualTo(
            """
            {
              "alpha_pattern": {},
              "base_model_name_or_path": "gr\u00f6\u00dfe",
              "init_lora_weights": true,
              "lora_dropout": 0.0,
              "r": 8,
              "revision": null,
              "target_modules": [
                "v_proj",
                "q_proj"
              ]
            }
            """.ReplaceLineEndings("\n")));
        using var weights = AdapterFolder.Open(folder["new"]).OpenWeights();
        Assert.That(weights.Metadata, Is.EqualTo(new Dictionary<string, string> { ["format"] = "pt" }));
    }

    [Test]
    public void What_is_missing_is_named()
    {
        Assert.That(() => AdapterFolder.Open(folder["none"]), Throws.InstanceOf<DirectoryNotFoundException>()
            .With.Message.Contains(folder["none"]));
        Assert.That(() => AdapterFolder.Open(folder.Folder("empty")), Throws.InstanceOf<FileNotFoundException>()
            .With.Message.Contains("adapter_config.json"));

        var bare = folder.Folder("bare");
        File.WriteAllText(Path.Combine(bare, AdapterFolder.ConfigName), "{}");
        Assert.That(() => AdapterFolder.Open(bare).OpenWeights(), Throws.InstanceOf<FileNotFoundException>()
            .With.Message.Contains("has no adapter_model.safetensors"));
        File.WriteAllText(Path.Combine(bare, "adapter_model.bin"), "");
        Assert.That(() => AdapterFolder.Open(bare).OpenWeights(), Throws.InstanceOf<FileNotFoundException>()
            .With.Message.Contains("PyTorch's own format"));
        Assert.That(() => AdapterFolder.Open(Path.Combine(bare, AdapterFolder.ConfigName)), Throws.InstanceOf<InvalidDataException>()
            .With.Message.Contains("is a file"));

        File.WriteAllText(Path.Combine(bare, AdapterFolder.ConfigName), "{\n\"r\": 8,\n}");
        Assert.That(() => AdapterFolder.Open(bare), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("line 3, column 1"));
    }
}
