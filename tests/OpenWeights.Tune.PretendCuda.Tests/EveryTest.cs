using NUnit.Framework;
using OpenWeights.Tune.PretendCuda.Tests;

/// <summary>Runs ahead of all tests, in whatever namespace they are.</summary>
[SetUpFixture]
public sealed class EveryTest
{
    [OneTimeSetUp]
    public void Load()
    {
        PretendDevice.Load();
        Environment.SetEnvironmentVariable("OWT_TEST_DEVICE", "cuda");
    }
}
