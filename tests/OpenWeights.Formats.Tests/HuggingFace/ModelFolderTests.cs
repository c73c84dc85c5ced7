using NUnit.Framework;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;

namespace OpenWeights.Formats.Tests.HuggingFace;

public sealed class ModelFolderTests
{
    private TemporaryFolder folder = null!;

    [SetUp]
    public void CreateFolder() => folder = new TemporaryFolder();

    [TearDown]
    public void RemoveFolder() => folder.Dispose();

    [Test]
    public void A_real_model_folder_is_opened_with_its_config_and_weights()
    {
        var model = ModelFolder.Open(Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base"));
        using var weights = model.OpenWeights();

        Assert.That(model.Config["model_type"]!.GetValue<string>(), Is.EqualTo("llama"));
        Assert.That(weights.GetTensor("model.embed_tokens.weight").Shape,
            Is.EqualTo(new[] { model.Config["vocab_size"]!.GetValue<long>(), model.Config["hidden_size"]!.GetValue<long>() }));
        Assert.That(model.EosTokenIds, Is.Not.Empty);
        Assert.That(ModelFolder.IsModel(model.FolderPath), Is.True);
    }

    [TestCase("""{"eos_token_id": 2}""", null, new[] { 2 })]
    [TestCase("""{"eos_token_id": [2, 7, 2]}""", null, new[] { 2, 7 })]
    [TestCase("""{"eos_token_id": null}""", null, new int[0])]
    [TestCase("{}", null, new int[0])]
    [TestCase("""{"eos_token_id": 2}""", """{"eos_token_id": [128001, 128009]}""", new[] { 128001, 128009 })]
    [TestCase("""{"eos_token_id": 2}""", """{"temperature": 0.6}""", new[] { 2 })]
    public void End_tokens_come_from_the_generation_config_and_else_from_the_config(string config, string? generation, int[] expected)
    {
        Write("config.json", config);
        if (generation is not null)
        {
            Write("generation_config.json", generation);
        }

        Assert.That(ModelFolder.Open(folder.Root).EosTokenIds, Is.EqualTo(expected));
    }

    [TestCase("\"</s>\"")]
    [TestCase("-1")]
    [TestCase("1.5")]
    [TestCase("true")]
    [TestCase("[1, null]")]
    [TestCase("99999999999")]
    public void An_end_token_that_is_no_id_is_refused(string value)
    {
        Write("config.json", $$"""{"eos_token_id": {{value}}}""");

        Assert.That(() => ModelFolder.Open(folder.Root), Throws.InstanceOf<InvalidDataException>()
            .With.Message.Contains(folder["config.json"]).And.Message.Contains("eos_token_id"));
    }

    [Test]
    public void What_goes_with_the_weights_is_found_and_copied_unchanged()
    {
        string[] companions =
        [
            "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model", "vocab.json", "merges.txt",
                "added_tokens.json",
            "chat_template.jinja", "chat_template.json", "LICENSE", "USE_POLICY.md", "Notice.txt",
                Path.Combine("additional_chat_templates", "rag.jinja"),
        ];
        var model = folder.Folder("model", [.. companions, "README.md", "model.safetensors", "training_args.bin"]);
        File.WriteAllText(Path.Combine(model, "config.json"), "{}");
        File.WriteAllText(Path.Combine(model, "generation_config.json"), "{ \"odd\":   \"spacing\" }");
        var copied = ModelFolder.Open(model).CopyCompanions(folder.Folder("export"));

        Assert.That(copied, Is.EquivalentTo(companions.Append("generation_config.json")));
        foreach (var name in copied)
        {
            Assert.That(File.ReadAllBytes(Path.Combine(folder["export"], name)), Is.EqualTo(File.ReadAllBytes(Path.Combine(model, name))),
                name);
        }

        Assert.That(Directory.GetFiles(folder["export"], "*", SearchOption.AllDirectories), Has.Length.EqualTo(copied.Count));
        Assert.That(ModelFolder.Open(model).LicenseFiles, Is.EquivalentTo(new[] { "LICENSE", "USE_POLICY.md", "Notice.txt" }));
    }

    [Test]
    public void An_adapter_is_recognised_where_a_model_is_wanted_and_the_other_way_round()
    {
        var adapter = folder.Folder("adapter", "adapter_config.json", "adapter_model.safetensors");
        var model = folder.Folder("model", "config.json", "model.safetensors");
        var both = folder.Folder("both", "config.json", "model.safetensors", "adapter_config.json");
        var trained = folder.Folder("trained", "config.json", "adapter_config.json", "adapter_model.safetensors");

        Assert.That(() => ModelFolder.Open(adapter), Throws.InstanceOf<InvalidDataException>()
            .With.Message.EqualTo($"{adapter} is an adapter; give its base as the model and it as the adapter"));
        Assert.That(() => AdapterFolder.Open(model), Throws.InstanceOf<InvalidDataException>()
            .With.Message.StartsWith($"{model} is a model and not an adapter; give it as the model"));
        Assert.That(new[] { adapter, model, both, trained }.Select(ModelFolder.IsModel), Is.EqualTo(new[] { false, true, true, false }));
        Assert.That(new[] { adapter, model, both, trained }.Select(AdapterFolder.IsAdapter),
            Is.EqualTo(new[] { true, false, false, true }));
    }

    [Test]
    public void What_is_missing_is_named()
    {
        Assert.That(() => ModelFolder.Open(folder["none"]), Throws.InstanceOf<DirectoryNotFoundException>()
            .With.Message.Contains(folder["none"]));
        Assert.That(() => ModelFolder.Open(folder.Folder("empty")), Throws.InstanceOf<FileNotFoundException>()
            .With.Message.Contains("has no config.json"));
        Write("model.safetensors", "");
        Assert.That(() => ModelFolder.Open(folder["model.safetensors"]), Throws.InstanceOf<InvalidDataException>()
            .With.Message.Contains("is a file"));

        Write("config.json", "{\"a\": }");
        Assert.That(() => ModelFolder.Open(folder.Root), Throws.InstanceOf<InvalidDataException>()
            .With.Message.Contains("config.json, line 1, column 7"));

        var weightless = folder.Folder("weightless", "pytorch_model.bin");
        File.WriteAllText(Path.Combine(weightless, "config.json"), "{}");
        Assert.That(() => ModelFolder.Open(weightless).OpenWeights(), Throws.InstanceOf<FileNotFoundException>()
            .With.Message.Contains("convert"));
    }

    private void Write(string name, string text) => File.WriteAllText(folder[name], text);
}
