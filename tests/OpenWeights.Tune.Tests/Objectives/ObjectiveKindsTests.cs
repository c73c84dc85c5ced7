using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Objectives.Preferences;

namespace OpenWeights.Tune.Tests.Objectives;

/// <summary>The objectives by their names in the config.</summary>
public sealed class ObjectiveKindsTests
{
    [Test]
    public void Every_name_of_the_config_is_an_objective()
    {
        var setting = SettingInfo.Of(typeof(ObjectiveSection)).First(static s => s.Key == "type").Setting;
        Assert.That(ObjectiveKinds.Names, Is.EquivalentTo(setting.OneOf));
        Assert.That(setting.OneOf.Select(static name => ObjectiveKinds.Find(name).Create(new ObjectiveContext(new RunConfig { Objective = new ObjectiveSection { Type = name } }) { Reference = new NoReference() })), Has.None.Null);
    }

    [Test]
    public void Every_loss_of_the_config_is_a_loss_of_pairs() => Assert.That(ObjectiveRules.Losses("dpo"), Is.EquivalentTo(PairLosses.Names.Append(DpoObjective.Sft)));

    [TestCase("type: dpo, loss_type: sigmiod", "objective.loss_type: 'sigmiod' is not a loss of dpo")]
    [TestCase("type: dpo, loss_type: [sigmoid, sft], loss_weights: [1]", "objective.loss_weights: there are 1 weights for 2 losses")]
    [TestCase("type: dpo, loss_type: exo_pair", "objective.label_smoothing: exo_pair needs a label_smoothing above 0")]
    [TestCase("type: dpo, loss_type: nca_pair, f_divergence_type: forward_kl", "objective.f_divergence_type: nca_pair is defined for reverse_kl only")]
    [TestCase("type: dpo, loss_type: aot, use_weighting: true", "objective.use_weighting: aot has no loss of each pair")]
    [TestCase("type: kto, loss_type: [kto, apo_zero_unpaired]", "objective.loss_type: the objective kto has one loss at a time")]
    [TestCase("type: sft, beta: 0.2", "objective.beta: the objective sft has no such setting; it belongs to dpo")]
    [TestCase("type: orpo, loss_type: sigmoid", "objective.loss_type: the objective orpo has no such setting")]
    public void Settings_that_no_loss_knows_are_told(string objective, string told)
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("train.yaml", $"output_dir: out\nmodel: {{ path: base }}\ndata: {{ train: rows.jsonl }}\nobjective: {{ {objective} }}\n");
        Assert.That(() => RunConfigFile.Read(path, []), Throws.InstanceOf<ConfigException>().With.Message.Contains(told));
    }

    [Test]
    public void A_name_that_is_none_is_refused_with_those_that_are() => Assert.That(
        static () => ObjectiveKinds.Find("sfd"),
        Throws.InstanceOf<ConfigException>().With.Message.Contains("objective.type").And.Message.Contains("'sfd'").And.Message.Contains("valid are sft"));

    private sealed class NoReference : IReferencePolicy
    {
        public T Run<T>(Func<CausalLanguageModel, T> compute) => throw new NotSupportedException();

        public void Dispose()
        {
        }
    }
}
