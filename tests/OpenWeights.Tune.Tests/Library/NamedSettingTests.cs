using System.Xml.Linq;
using NUnit.Framework;
using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Tests.Library;

/// <summary>Settings that a program gives by their names in YAML: those of one type of adapter, one start or one optimizer.</summary>
public sealed class NamedSettingTests
{
    [Test]
    public void An_adapter_of_another_type_takes_its_settings_by_their_names_in_YAML()
    {
        var section = new AdapterSection { Type = "vera", TargetModules = ["q_proj", "v_proj"] }.With("r", 64).With("d_initial", 0.2);
        Assert.That(ConfigWriter.Value(section), Is.EqualTo(ConfigWriter.Value(FromYaml("adapter: { type: vera, target_modules: [q_proj, v_proj], r: 64, d_initial: 0.2 }").Adapter!)));
    }

    [Test]
    public void A_start_and_an_optimizer_take_theirs_in_the_same_way()
    {
        var config = new RunConfig
        {
            OutputDir = "x",
            Model = new ModelSection { Path = "m" },
            Data = new DataSection { Train = [new DataSource { Path = "d.jsonl" }] },
            Adapter = new AdapterSection { Rank = 4, InitLoraWeights = "eva" }.With("eva_config.rho", 1).With("eva_config.tau", 0.9f).With("kasa_config", new Dictionary<string, object?>()),
            Training = new TrainingSection { Optimizer = "muon" }.With("muon.ns_coefficients", new[] { 3.0, -4, 2 }).With("muon.momentum", 0.9).With("adafactor.beta1", null),
        };
        var yaml = FromYaml("""
            adapter: { r: 4, init_lora_weights: eva, eva_config: { rho: 1, tau: 0.9 }, kasa_config: {} }
            training: { optimizer: muon, muon: { ns_coefficients: [3, -4, 2], momentum: 0.9 } }
            """);
        Assert.That(ConfigWriter.Write(config), Is.EqualTo(ConfigWriter.Write(yaml)));
    }

    [Test]
    public void The_section_that_it_is_called_of_stays_as_it_was()
    {
        var vera = new AdapterSection { Type = "vera" };
        var before = ConfigWriter.Value(vera);
        _ = vera.With("r", 3).With("bias", "none");
        var training = new TrainingSection();
        _ = training.With("galore.rank", 3);
        Assert.Multiple(() =>
        {
            Assert.That(ConfigWriter.Value(vera), Is.EqualTo(before));
            Assert.That(ConfigWriter.Value(training), Is.EqualTo(ConfigWriter.Value(new TrainingSection())));
        });
    }

    [TestCase("vera", "r", 0, "adapter.r: 0 is out of range; it must be at least 1.")]
    [TestCase("vera", "lora_alpha", 4, "adapter.lora_alpha: this is a setting of the adapter types")]
    [TestCase("lora", "eva_config.rh", 4, "adapter.eva_config.rh: unknown setting; did you mean rho?")]
    [TestCase("lora", "eva_config.rho", "much", "adapter.eva_config.rho: a number is expected")]
    [TestCase("lora", "type", "lore", "adapter.type: 'lore' is not a valid value")]
    public void What_is_wrong_with_one_is_told_as_of_a_file(string type, string name, object value, string message) =>
        Assert.That(() => new AdapterSection { Type = type }.With(name, value), Throws.InstanceOf<ConfigException>().With.Message.StartsWith(message));

    [Test]
    public void A_value_that_no_file_could_have_is_refused() =>
        Assert.That(static () => new TrainingSection().With("muon.momentum", new object()), Throws.ArgumentException.With.Message.StartsWith("Object is no kind of value that a setting has"));

    [Test]
    public void Properties_of_LoRA_are_refused_for_another_type()
    {
        var config = new RunConfig { Adapter = new AdapterSection { Type = "vera", Rank = 16, LoraAlpha = 32, UseDora = true, InitLoraWeights = "true" } };
        Assert.That(config.Problems().Where(static p => p.Key.StartsWith("adapter", StringComparison.Ordinal)).Select(static p => p.ToString()), Is.EqualTo(new[]
        {
            "adapter.r: the property Rank is LoRA's; vera has its own, which With(\"r\", ...) sets.",
            $"adapter.lora_alpha: {AdapterTypes.OfAnotherType("vera", "lora_alpha")}",
            $"adapter.use_dora: {AdapterTypes.OfAnotherType("vera", "use_dora")}",
        }));
    }

    [Test]
    public void An_unknown_type_is_told_as_of_a_file() =>
        Assert.That(new RunConfig { Adapter = new AdapterSection { Type = "lore" } }.Problems().Select(static p => p.ToString()), Has.One.StartsWith("adapter.type: 'lore' is not a valid value; valid values are lora, "));

    [TestCase(typeof(AdapterSection), "adapter")]
    [TestCase(typeof(TrainingSection), "training")]
    public void What_has_no_property_is_listed_where_it_is_set(Type section, string name)
    {
        var documentation = XDocument.Load(Path.ChangeExtension(section.Assembly.Location, ".xml"));
        var remarks = documentation.Descendants("member").Single(m => m.Attribute("name")!.Value.StartsWith($"M:{section.FullName}.With(", StringComparison.Ordinal)).Element("remarks")!.Value;
        var hidden = SettingInfo.Of(section).Where(static s => !s.Property.GetMethod!.IsPublic).ToList();
        Assert.That(hidden, Is.Not.Empty, name);
        foreach (var setting in hidden)
        {
            var inner = string.Join(", ", SettingInfo.Of(setting.Property.PropertyType).Select(static s => s.Key));
            Assert.That(string.Join(' ', remarks.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries)), Does.Contain($"{setting.Key} ({inner})"));
        }
    }

    private static RunConfig FromYaml(string text) => RunConfigFile.Parse("train.yaml", "output_dir: x\nmodel: { path: m }\ndata: { train: d.jsonl }\n" + text, []).Written;
}
