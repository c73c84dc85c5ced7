using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;

namespace OpenWeights.Tune.Tests.Adapters;

/// <summary>adapter_config.json: what does nothing is silent, what is wrong is told by its key, and no place of this machine is written.</summary>
public sealed class PeftSettingsTests
{
    private const string Peft21 = """
        {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "alora_invocation_tokens": null, "arrow_config": null, "corda_config": null,
         "ensure_weight_tying": false, "kasa_config": null, "lora_ga_config": null, "megatron_core": "megatron.core", "monteclora_config": null, "peft_version": "0.21.2",
         "qalora_group_size": 16, "trainable_token_indices": null, "use_bdlora": null, "use_qalora": false, "velora_config": null, "of_a_later_version": null, "also_later": false, "later_list": []}
        """;

    [Test]
    public void What_a_later_PEFT_writes_and_does_not_use_is_silent()
    {
        _ = PeftConfig.Read(JsonNode.Parse(Peft21)!.AsObject(), "adapter_config.json", out var unknown);
        Assert.That(unknown, Is.Empty);
        var used = JsonNode.Parse(Peft21)!.AsObject();
        used["of_a_later_version"] = 3;
        _ = PeftConfig.Read(used, "adapter_config.json", out unknown);
        Assert.That(unknown, Is.EqualTo(new[] { "of_a_later_version" }));
    }

    [Test]
    public void No_adapter_of_PEFT_021_has_a_setting_that_is_not_known()
    {
        var files = SharedFiles.FindFiles("adapter_config.json", "goldens", "adapters2026");
        var told = new List<string>();
        foreach (var file in files)
        {
            try
            {
                _ = Read(JsonNode.Parse(File.ReadAllText(file))!.AsObject(), file, out var unknown);
                told.AddRange(unknown.Select(u => $"{file}: {u}"));
            }
            catch (InvalidDataException)
            {
                // Refused for what it is, by name; another kind of adapter, for example.
            }
        }

        Assert.That(files, Is.Not.Empty);
        Assert.That(told, Is.Empty);
    }

    private static AdapterConfig Read(JsonObject json, string path, out IReadOnlyList<string> unknown) => AdapterKinds.Of(json, path).Read(json, path, out unknown);

    [TestCase("target_modules", "[null]", "target_modules: a string is expected, not null")]
    [TestCase("target_modules", "[3]", "target_modules: a string is expected, not 3")]
    [TestCase("rank_pattern", """{"q_proj": null}""", "rank_pattern: q_proj: a number is expected, not null")]
    [TestCase("rank_pattern", """{"q_proj": 1.5}""", "rank_pattern: q_proj: a whole number is expected, not 1.5")]
    [TestCase("rank_pattern", "[]", "rank_pattern: an object is expected, not []")]
    [TestCase("alpha_pattern", """{"q_proj": "8"}""", "alpha_pattern: q_proj: a number is expected, not \"8\"")]
    [TestCase("modules_to_save", "[null]", "modules_to_save: a string is expected, not null")]
    [TestCase("layers_to_transform", """["1"]""", "layers_to_transform: a number is expected, not \"1\"")]
    [TestCase("use_dora", "\"yes\"", "use_dora: true or false is expected, not \"yes\"")]
    [TestCase("r", "\"4\"", "r: a number is expected, not \"4\"")]
    [TestCase("lora_alpha", "[]", "lora_alpha: a number is expected, not []")]
    [TestCase("bias", "3", "bias: a string is expected, not 3")]
    [TestCase("velora_config", """{"num_groups": 4}""", "velora_config: the adapter uses VeLoRA")]
    public void A_setting_of_the_wrong_type_is_told_by_its_key(string key, string value, string message)
    {
        var config = JsonNode.Parse(Peft21)!.AsObject();
        config[key] = JsonNode.Parse(value);
        Assert.That(() => PeftConfig.Read(config, "adapter_config.json", out _), Throws.InstanceOf<InvalidDataException>().With.Message.Contains($"adapter_config.json: {message}"));
    }

    [TestCase("/home/me/models/llama", "tiny", "tiny")]
    [TestCase("/home/me/models/llama", null, "llama")]
    [TestCase("C:\\models\\llama", null, "llama")]
    [TestCase("~/llama", "tiny", "tiny")]
    [TestCase("org/llama", "tiny", "org/llama")]
    [TestCase(null, "tiny", "tiny")]
    public void The_base_is_named_by_its_name_and_not_by_its_place(string? read, string? known, string written)
    {
        if (read?.StartsWith("C:", StringComparison.Ordinal) == true && !OperatingSystem.IsWindows())
        {
            read = "/models/llama";
        }

        var source = JsonNode.Parse(Peft21)!.AsObject();
        source["base_model_name_or_path"] = read;
        var config = PeftConfig.Read(source, "adapter_config.json", out _);
        Assert.That(PeftConfig.Write(config, [], known, source)["base_model_name_or_path"]!.ToString(), Is.EqualTo(written));
    }
}
