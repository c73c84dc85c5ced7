using NUnit.Framework;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Objectives;

namespace OpenWeights.Tune.Tests.Objectives;

/// <summary>The objectives by their names in the config.</summary>
public sealed class ObjectiveKindsTests
{
    [Test]
    public void Every_name_of_the_config_is_an_objective()
    {
        var setting = SettingInfo.Of(typeof(ObjectiveSection)).First(static s => s.Key == "type").Setting;
        Assert.That(ObjectiveKinds.Names, Is.EquivalentTo(setting.OneOf));
        Assert.That(setting.OneOf.Select(static name => ObjectiveKinds.Create(new ObjectiveSection { Type = name })), Has.None.Null);
    }

    [Test]
    public void A_name_that_is_none_is_refused_with_those_that_are() => Assert.That(
        static () => ObjectiveKinds.Create(new ObjectiveSection { Type = "sfd" }),
        Throws.InstanceOf<ConfigException>().With.Message.Contains("objective.type").And.Message.Contains("'sfd'").And.Message.Contains("valid are sft"));
}
