using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Tune.Export;

namespace OpenWeights.Tune.Tests.Export;

/// <summary>Warnings about adapters that servers refuse.</summary>
public sealed class PeftLintTests
{
    [Test]
    public void An_adapter_that_all_servers_take_has_no_warnings() => Assert.That(
        Check("""{"r": 16, "lora_alpha": 32, "bias": "none", "use_dora": false, "use_rslora": true, "modules_to_save": null, "rank_pattern": {}, "target_modules": ["q_proj"]}"""),
        Is.Empty);

    [TestCase("""{"use_dora": true}""", "use_dora")]
    [TestCase("""{"modules_to_save": ["lm_head"]}""", "lm_head")]
    [TestCase("""{"bias": "all"}""", "bias: all")]
    [TestCase("""{"lora_bias": true}""", "lora_bias")]
    [TestCase("""{"rank_pattern": {"q_proj": 4}}""", "rank_pattern")]
    [TestCase("""{"target_modules": ["q_proj", "embed_tokens"]}""", "embed_tokens")]
    [TestCase("""{"target_modules": ".*lm_head"}""", "lm_head")]
    [TestCase("""{"r": 64}""", "--max-lora-rank 64")]
    public void What_a_server_refuses_is_named(string config, string named) => Assert.That(Check(config), Has.Exactly(1).Contains(named));

    private static IReadOnlyList<string> Check(string config) => PeftLint.Check(JsonNode.Parse(config)!.AsObject());
}
