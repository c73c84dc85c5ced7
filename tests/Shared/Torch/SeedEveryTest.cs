using NUnit.Framework;
using NUnit.Framework.Interfaces;
using static TorchSharp.torch;

[assembly: OpenWeights.Testing.SeedEveryTest]

namespace OpenWeights.Testing;

/// <summary>
/// Seeds torch's generator before every test of the assembly, so that a test that draws numbers without a seed of its own draws the same ones in
/// every run, alone or after others. Tests that need certain numbers, or two equal draws, seed themselves.
/// </summary>
[AttributeUsage(AttributeTargets.Assembly)]
internal sealed class SeedEveryTestAttribute : Attribute, ITestAction
{
    public ActionTargets Targets => ActionTargets.Test;

    public void BeforeTest(ITest test) => _ = random.manual_seed(20_260);

    public void AfterTest(ITest test)
    {
    }
}
