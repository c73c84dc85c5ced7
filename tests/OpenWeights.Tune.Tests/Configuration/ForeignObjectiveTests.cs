using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Configuration.Foreign;

namespace OpenWeights.Tune.Tests.Configuration;

/// <summary>What other programs' configs train besides answers as they are.</summary>
public sealed class ForeignObjectiveTests
{
    [TestCase("loss_type: [sigmoid, bco_pair, sft]\nloss_weights: [0.8, 0.2, 1.0]\nbeta: 0.05\n", "dpo", 0.05, "sigmoid bco_pair sft", "0.8 0.2 1")]
    [TestCase("beta: 0.2\nrpo_alpha: 0.5\n", "dpo", 0.2, "sigmoid sft", "1 0.5")]
    [TestCase("desirable_weight: 1.33\nbeta: 0.1\n", "kto", 0.1, "", "")]
    [TestCase("loss_type: simpo\ncpo_alpha: 0.0\nsimpo_gamma: 1.0\nbeta: 2.0\n", "cpo", 2.0, "simpo", "")]
    public void TRLs_preference_trainers(string settings, string type, double beta, string losses, string weights)
    {
        var (objective, training, _) = Convert($"model_name_or_path: m\nper_device_train_batch_size: 2\n{settings}");
        Assert.That((objective.Type, objective.Beta), Is.EqualTo((type, (double?)beta)));
        Assert.That(string.Join(' ', objective.LossType?.Values ?? []), Is.EqualTo(losses));
        Assert.That(string.Join(' ', objective.LossWeights.Select(static w => w.ToString(System.Globalization.CultureInfo.InvariantCulture))), Is.EqualTo(weights));
        Assert.That(training.LearningRate, Is.EqualTo(1e-6), "TRL's own for preferences, which its file does not say");
    }

    [Test]
    public void TRLs_GKD()
    {
        var (objective, training, left) = Convert("model_name_or_path: m\nper_device_train_batch_size: 2\nteacher_model_name_or_path: /models/large\nlmbda: 0.3\nbeta: 0.1\ntemperature: 0.7\nmax_new_tokens: 64\nseq_kd: true\n");
        Assert.That((objective.Type, objective.Teacher, objective.Beta, objective.Temperature), Is.EqualTo(("distill", "/models/large", (double?)0.1, (double?)null)), "GKD's temperature is that of sampling");
        Assert.That((objective.Lmbda, objective.SamplingTemperature, objective.MaxCompletionLength), Is.EqualTo((0.3, 0.7, 64)));
        Assert.That(training.LearningRate, Is.EqualTo(2e-5));
        Assert.That(objective.SeqKd);
        Assert.That(left, Has.None.EqualTo("seq_kd"));
    }

    [Test]
    public void A_beta_alone_is_said_to_belong_to_several_trainers()
    {
        var (objective, _, left) = Convert("model_name_or_path: m\nper_device_train_batch_size: 2\nbeta: 0.1\n");
        Assert.That((objective.Type, left.Contains("objective.type")), Is.EqualTo(("dpo", true)));
    }

    [TestCase("stage: dpo\npref_beta: 0.2\n", "dpo", "sigmoid", 0.2)]
    [TestCase("stage: dpo\npref_loss: ipo\npref_ftx: 0.5\n", "dpo", "ipo sft", null)]
    [TestCase("stage: dpo\ndpo_label_smoothing: 0.1\n", "dpo", "cdpo", null)]
    [TestCase("stage: dpo\npref_loss: simpo\npref_beta: 2.0\nsimpo_gamma: 0.5\n", "cpo", "simpo", 2.0)]
    [TestCase("stage: dpo\npref_loss: orpo\npref_beta: 0.1\n", "orpo", "", 0.1)]
    [TestCase("stage: kto\npref_beta: 0.1\nkto_chosen_weight: 1.2\n", "kto", "", 0.1)]
    public void LLaMA_Factorys_stages(string settings, string type, string losses, double? beta)
    {
        var (objective, _, left) = Convert($"model_name_or_path: m\nfinetuning_type: lora\ncutoff_len: 512\n{settings}");
        Assert.That((objective.Type, objective.Beta), Is.EqualTo((type, beta)));
        Assert.That(string.Join(' ', objective.LossType?.Values ?? []), Is.EqualTo(losses));
        Assert.That(left, Has.None.StartsWith("pref").And.None.EqualTo("stage"));
        Assert.That((type == "cpo", objective.CpoAlpha), Is.EqualTo((type == "cpo", type == "cpo" ? 0.0 : 1.0)), "LLaMA-Factory's SimPO has no likelihood");
    }

    [TestCase("rl: dpo\nrl_beta: 0.3\ndpo_use_weighting: true\n", "dpo", "", 0.3)]
    [TestCase("rl: ipo\n", "dpo", "ipo", null)]
    [TestCase("rl: simpo\ncpo_alpha: 0.5\nsimpo_gamma: 0.7\n", "cpo", "simpo", null)]
    [TestCase("rl: orpo\norpo_alpha: 0.1\n", "orpo", "", 0.1)]
    [TestCase("rl: kto\nkto_desirable_weight: 0.2\n", "kto", "", null)]
    public void Axolotls_rl(string settings, string type, string losses, double? beta)
    {
        var (objective, _, left) = Convert($"base_model: m\nsequence_len: 512\nmicro_batch_size: 2\nlearning_rate: 1e-5\n{settings}");
        Assert.That((objective.Type, objective.Beta), Is.EqualTo((type, beta)));
        Assert.That(string.Join(' ', objective.LossType?.Values ?? []), Is.EqualTo(losses));
        Assert.That(left, Has.None.EqualTo("rl"));
    }

    [Test]
    public void Torchtunes_losses()
    {
        const string model = "model:\n  _component_: torchtune.models.llama3_2.lora_llama3_2_1b\n  lora_attn_modules: [q_proj]\ncheckpointer:\n  checkpoint_dir: /models/small\n";
        var dpo = Convert($"{model}loss:\n  _component_: torchtune.rlhf.loss.DPOLoss\n  beta: 0.2\n  label_smoothing: 0.1\n").Objective;
        Assert.That((dpo.Type, dpo.Beta, dpo.LabelSmoothing, dpo.LossType!.Values[0]), Is.EqualTo(("dpo", (double?)0.2, 0.1, "cdpo")));
        var (distill, _, left) = Convert($"{model}teacher_checkpointer:\n  checkpoint_dir: /models/large\nkd_loss:\n  _component_: torchtune.modules.loss.ForwardKLWithChunkedOutputLoss\nkd_ratio: 0.5\n");
        Assert.That((distill.Type, distill.Teacher, distill.Beta), Is.EqualTo(("distill", "/models/large", (double?)0)));
        Assert.That(left, Contains.Item("kd_ratio"));
    }

    private static (ObjectiveSection Objective, TrainingSection Training, IReadOnlyList<string> Left) Convert(string text)
    {
        using var folder = new TemporaryFolder();
        var converted = ConfigConverter.Convert(folder.Write("theirs.yaml", text));
        var config = RunConfigFile.Parse("c.yaml", converted.Write(), ["data.train=rows.jsonl", "model.path=m"]).Config;
        return (config.Objective, config.Training, [.. converted.LeftOut.Select(static l => l.Name)]);
    }
}
